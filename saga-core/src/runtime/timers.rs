//! Deadlines: timers that are due call the handler of the step that armed them, in one transaction.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, rc::Rc};

use futures::FutureExt;

use super::{
    Shared,
    batch::{Cause, outbox_row, panicked},
};
use crate::{
    barrier::Op,
    clock::Clock,
    handler::Cx,
    outcome::StepError,
    step::End,
    store::{Changes, DueTimer, Store, StoreError},
    transport::Producer,
};

/// Fires up to `limit` timers. Returns how many were due.
///
/// # Errors
/// When the database is away or a handler fails; the timers stay armed.
pub(super) async fn fire<S: Store, P: Producer, C: Clock>(
    shared: Rc<Shared<S, P, C>>,
    limit: usize,
) -> Result<usize, StepError> {
    let now = shared.clock.now();
    let (mut tx, due) = shared.store.begin_due(now, limit).await?;
    if due.is_empty() {
        return Ok(0);
    }
    let count = due.len();
    let mut by_step: BTreeMap<String, Vec<DueTimer>> = BTreeMap::new();
    for timer in due {
        by_step.entry(timer.step.clone()).or_default().push(timer);
    }
    let mut changes = Changes::default();
    for (name, timers) in by_step {
        let step = shared.participant.steps.iter().find(|step| step.spec.name == name);
        let Some((step, expire)) = step.and_then(|step| Some((step, step.expire.as_ref()?))) else {
            tracing::warn!(
                step = name,
                timers = timers.len(),
                "deadlines of a step that no longer declares one are dropped"
            );
            continue;
        };
        let sagas = timers.iter().map(|timer| timer.saga_id).collect();
        let mut cx = Cx::new(&mut tx, now);
        let ends = AssertUnwindSafe(expire(&mut cx, sagas)).catch_unwind().await;
        let ends = ends.unwrap_or_else(|panic| Err(panicked(&*panic)))?;
        for (timer, end) in timers.iter().zip(ends) {
            if matches!(end, End::Quiet) {
                continue;
            }
            let id = format!("deadline/{}/{}/{}", timer.saga_id, name, timer.due.as_microsecond());
            let cause = Cause { id: &id, step: step.spec.name, op: Op::Action, trace: &timer.trace };
            changes.outbox.extend(outbox_row(shared.participant.name, timer.saga_id, &cause, end, false, now)?);
        }
    }
    let rows = changes.outbox.clone();
    let fired = rows.len() as u64;
    if let Err(error) = shared.store.commit(tx, changes).await {
        if matches!(error, StoreError::Unavailable(_)) {
            shared.outbox.perhaps_committed();
        }
        return Err(error.into());
    }
    shared.outbox.committed(rows);
    shared.metrics.deadlines_fired.inc_by(fired);
    Ok(count)
}

//! Deadlines: timers that are due call the handler of the step that armed them, in one transaction.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, rc::Rc, time::Duration};

use futures::FutureExt;

use super::{
    Shared,
    batch::{Cause, outbox_row, panicked},
};
use crate::{
    barrier::Op,
    clock::{Clock, after},
    handler::Cx,
    outcome::{ErrorClass, StepError},
    step::End,
    store::{Changes, DueTimer, Store, StoreError, Timer},
    transport::Producer,
};

/// A deadline whose handler fails is tried again after this; the others do not wait for it.
const POSTPONE: Duration = Duration::from_secs(30);

/// Fires up to `limit` timers. When a handler fails they are fired one by one, so that one bad saga does not hold the
/// others. Returns how many were due.
///
/// # Errors
/// When the database is away; the timers stay armed.
pub(super) async fn fire<S: Store, P: Producer, C: Clock>(
    shared: Rc<Shared<S, P, C>>,
    limit: usize,
) -> Result<usize, StepError> {
    match attempt(&shared, limit).await {
        Err(error) if error.class() != ErrorClass::Infrastructure => {}
        other => return other,
    }
    for fired in 0..limit {
        match attempt(&shared, 1).await {
            Ok(0) => return Ok(fired),
            Ok(_) => {}
            Err(error) if error.class() == ErrorClass::Infrastructure => return Err(error),
            Err(error) => postpone(&shared, &error).await?,
        }
    }
    Ok(limit)
}

/// The oldest timer, whose handler fails, is armed anew.
async fn postpone<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    error: &StepError,
) -> Result<(), StepError> {
    let now = shared.clock.now();
    let (tx, due) = shared.store.begin_due(now, 1).await?;
    let mut changes = Changes::default();
    for timer in due {
        tracing::error!(saga_id = %timer.saga_id, step = timer.step, %error, "a deadline's handler fails; it is tried again");
        let step = shared.participant.steps.iter().find(|step| step.spec.name == timer.step);
        changes.arm.extend(step.map(|step| Timer {
            saga_id: timer.saga_id,
            step: step.spec.name,
            due: after(now, POSTPONE),
            trace: timer.trace,
        }));
    }
    Ok(shared.store.commit(tx, changes).await?)
}

/// One transaction.
async fn attempt<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, limit: usize) -> Result<usize, StepError> {
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

//! Deadlines: timers that are due call the handler of the step that armed them, in one transaction.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, rc::Rc, time::Duration};

use futures::FutureExt;
use tracing::Instrument;

use super::{
    Shared,
    attempt::panicked,
    plan::{Cause, outbox_row},
};
use crate::{
    barrier::Op,
    clock::Clock,
    handler::{Cx, Seen},
    outcome::{ErrorClass, StepError},
    step::End,
    store::{Changes, DueTimer, Progress, Store, StoreError},
    transport::Producer,
};

/// A deadline whose handler fails is tried again after this; the others do not wait for it.
const POSTPONE: Duration = Duration::from_secs(30);
/// One that waits for somebody's lock, after this.
const LOCKED: Duration = Duration::from_secs(1);

/// Fires up to `limit` timers. When a handler fails they are fired one by one, so that one bad saga does not hold the
/// others. Returns how many were due.
///
/// # Errors
/// When the database is away; the timers stay armed.
pub(super) async fn fire<S: Store, P: Producer, C: Clock>(
    shared: Rc<Shared<S, P, C>>,
    limit: usize,
) -> Result<usize, StepError> {
    let patience = shared.options.patience;
    match attempt(&shared, limit, patience).await {
        Err(failed) if failed.error.class() != ErrorClass::Infrastructure => {}
        other => return other.map_err(|failed| failed.error),
    }
    let mut locked = 0;
    for fired in 0..limit {
        match attempt(&shared, 1, patience / 10).await {
            Err(failed) if failed.error.is_locked() => {
                tracing::debug!(error = %failed.error, "a deadline waits for a lock");
                shared.store.postpone(&failed.due, LOCKED).await?;
                // Four times what one transaction waits: then the others of the participant go on.
                locked += 1;
                if locked == 40 {
                    return Ok(fired);
                }
            }
            Ok(0) => return Ok(fired),
            Ok(_) => {}
            Err(failed) if failed.error.class() == ErrorClass::Infrastructure => return Err(failed.error),
            Err(failed) => postpone(&shared, &failed).await?,
        }
    }
    Ok(limit)
}

/// A transaction that did not commit, and the timers that it was for.
struct Failed {
    error: StepError,
    due: Vec<DueTimer>,
}

/// They are due again later, these and no others: the next due one may be another's by now.
async fn postpone<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    Failed { error, due }: &Failed,
) -> Result<(), StepError> {
    for timer in due {
        tracing::error!(saga_id = %timer.saga_id, step = timer.step, %error, "a deadline's handler fails; it is tried again");
    }
    Ok(shared.store.postpone(due, POSTPONE).await?)
}

/// One transaction.
async fn attempt<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    limit: usize,
    patience: Duration,
) -> Result<usize, Failed> {
    let begun = shared.store.begin_due(limit, patience).await;
    let (tx, due) = begun.map_err(|error| Failed { error: error.into(), due: Vec::new() })?;
    let count = due.len();
    match count {
        0 => Ok(0),
        _ => expire(shared, tx, &due).await.map(|()| count).map_err(|error| Failed { error, due }),
    }
}

async fn expire<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    mut tx: S::Tx,
    due: &[DueTimer],
) -> Result<(), StepError> {
    let now = shared.clock.now();
    let mut by_step: BTreeMap<&str, Vec<&DueTimer>> = BTreeMap::new();
    for timer in due {
        by_step.entry(&timer.step).or_default().push(timer);
    }
    let mut changes = Changes::default();
    let mut told = Vec::new();
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
        let seen = timers.iter().map(|timer| Seen { saga_id: timer.saga_id, trace: timer.trace.clone() });
        let seen: Vec<Seen> = seen.collect();
        let lines = match &seen[..] {
            [one] => one.lines(Some(step.spec.name)),
            many => tracing::error_span!("step", step = step.spec.name, sagas = many.len()),
        };
        let mut cx = Cx::new(&mut tx, now).of(&seen);
        let ends = AssertUnwindSafe(expire(&mut cx, sagas)).catch_unwind().instrument(lines).await;
        let ends = ends.unwrap_or_else(|panic| Err(panicked(&*panic)))?;
        for (timer, end) in timers.iter().zip(ends) {
            let place = shared.spans.place(&timer.trace, timer.saga_id);
            let outcome = if matches!(end, End::Quiet) { "quiet" } else { "fired" };
            told.push((place.clone(), step.spec.name, timer.saga_id, outcome));
            if matches!(end, End::Quiet) {
                continue;
            }
            let id = format!("deadline/{}/{}/{}", timer.saga_id, name, timer.due.as_microsecond());
            if shared.ends(&end) {
                changes.ended.push(Progress { saga_id: timer.saga_id, at: now });
            }
            let cause = Cause { source: "", id: &id, step: step.spec.name, op: Op::Action, trace: &place.context };
            changes.outbox.extend(outbox_row(shared, timer.saga_id, &cause, end, false, now)?);
        }
    }
    let rows = changes.outbox.clone();
    let fired = rows.len() as u64;
    let committed = match shared.store.commit(tx, changes).await {
        Ok(committed) => committed,
        Err(error) => {
            if matches!(error, StoreError::Unavailable(_)) {
                shared.outbox.perhaps_committed(&rows);
            }
            return Err(error.into());
        }
    };
    let end = shared.clock.now();
    shared.progressed(&committed, end, &rows);
    shared.outbox.committed(rows);
    shared.metrics.deadlines_fired.inc_by(fired);
    for (place, step, saga_id, outcome) in told {
        shared.spans.deadline(&place, step, saga_id, (now, end), outcome);
    }
    Ok(())
}

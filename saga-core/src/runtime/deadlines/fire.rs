//! Fires timers that are due: each calls the handler of the step that armed it, many in one transaction.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, rc::Rc, time::Duration};

use futures::FutureExt;

use crate::runtime::{
    Shared,
    transaction::handler_failures::pause_after,
    transaction::publication::{Cause, Publication, outbox_rows},
};
use crate::{
    barrier::{Mark, Op},
    clock::{Clock, after},
    envelope::DEADLINE_CAUSE,
    event::SagaId,
    handler::{Cx, SagaContext},
    outcome::{ErrorClass, StepError},
    step::End,
    store::{Changes, Disarm, DueTimer, LockedStep, MarkChange, Progress, Store, StoreError, TimerKind},
    trace::{Around, NewSpan},
    transport::Producer,
};

/// The pause before a deadline whose handler failed is tried again. The others do not wait for it.
const POSTPONE: Duration = Duration::from_secs(30);
/// The same for a deadline that waits for another transaction.
const LOCKED: Duration = Duration::from_secs(1);

/// What a turn of firing deadlines came to.
pub(crate) enum Fired {
    /// All that were due, up to the limit, were fired.
    All { timers: usize },
    /// The database was away, or some deadlines failed, for so long.
    Some { took: Duration },
}

/// The longest pause between two turns of the deadlines.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Fires timers, up to `together` in one transaction. When that fails they are fired one by one, for four times the lock timeout,
/// so that one failing deadline delays neither the others nor the events. Timers that were not fired stay armed.
pub(crate) async fn fire<S: Store, P: Producer, C: Clock>(shared: Rc<Shared<S, P, C>>, together: usize) -> Fired {
    let (lock_timeout, began) = (shared.options.lock_timeout, shared.clock.now());
    let failed = match attempt(&shared, together, lock_timeout).await {
        Ok(timers) => return Fired::All { timers },
        Err(failed) => failed,
    };
    if let Err(error) = one_by_one(&shared, failed).await {
        tracing::warn!(%error, "deadlines cannot be fired now");
    }
    let took = Duration::try_from(shared.clock.now().duration_since(began)).unwrap_or_default();
    Fired::Some { took: took.min(LONGEST_PAUSE / 3) }
}

/// Fires each by itself after all failed together, and postpones those that fail.
async fn one_by_one<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    together: Failed,
) -> Result<(), StepError> {
    let lock_timeout = shared.options.lock_timeout;
    let until = after(shared.clock.now(), lock_timeout * 4);
    match together.due.len() {
        0 => return Err(together.error),
        1 => postpone(shared, together).await?,
        _ => {}
    }
    for _ in 0..shared.options.max_batch {
        match attempt(shared, 1, lock_timeout / 10).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(Failed { error, due, .. }) if due.is_empty() => return Err(error),
            Err(failed) => postpone(shared, failed).await?,
        }
        if shared.clock.now() >= until {
            break;
        }
    }
    Ok(())
}

/// A failed transaction.
struct Failed {
    error: StepError,
    /// Its timers; none when it did not begin.
    due: Vec<DueTimer>,
    took: Duration,
}

/// Makes exactly these timers due again later. The next due one may belong to another process by now.
async fn postpone<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    Failed { error, due, took }: Failed,
) -> Result<(), StoreError> {
    if error.is_locked() || error.is_conflict() {
        tracing::debug!(%error, "a deadline waits for another transaction");
        return shared.store.postpone(&due, LOCKED).await;
    }
    let pause = if error.class() == ErrorClass::Infrastructure { shared.options.longest_pause } else { POSTPONE };
    let pause = pause.max(pause_after(took));
    for timer in &due {
        let DueTimer { saga_id, step, .. } = timer;
        tracing::error!(%saga_id, step, %error, "a deadline cannot be fired; it is tried again");
        if error.class() == ErrorClass::Infrastructure {
            let again = shared.failing.borrow_mut().failed(timer, after(shared.clock.now(), pause * 2));
            if again {
                let why = format!("the deadline of {step} cannot be fired: {error}");
                shared.health.set_waiting("deadlines", Some(why));
            }
        }
    }
    shared.store.postpone(&due, pause).await
}

/// One transaction.
async fn attempt<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    limit: usize,
    lock_timeout: Duration,
) -> Result<usize, Failed> {
    let began = shared.clock.now();
    let took = || Duration::try_from(shared.clock.now().duration_since(began)).unwrap_or_default();
    let begun = shared.store.begin_due(limit, lock_timeout).await;
    let (tx, due) = begun.map_err(|error| Failed { error: error.into(), due: Vec::new(), took: took() })?;
    if !due.is_empty()
        && let Err(error) = expire(shared, tx, &due).await
    {
        return Err(Failed { error, due, took: took() });
    }
    if shared.failing.borrow_mut().is_over(&due, shared.clock.now()) {
        shared.health.set_waiting("deadlines", None);
    }
    Ok(due.len())
}

/// What names the deadline as the cause of its event. Two deadlines of one step may be due at one time.
fn cause_id(timer: &DueTimer) -> String {
    let DueTimer { saga_id, step, kind, due, .. } = timer;
    let due = due.as_microsecond();
    match kind {
        TimerKind::Step => format!("{DEADLINE_CAUSE}{saga_id}/{step}/{due}"),
        kind => format!("{DEADLINE_CAUSE}{saga_id}/{step}/{}/{due}", kind.name()),
    }
}

/// The joins among these that still wait, and whether an event that has arrived follows from a compensation that failed for good.
/// Their rows are locked until the transaction ends, so that a timer and the last arrival
/// cannot both win.
async fn open_joins<'a, S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    tx: &mut S::Tx,
    due: &'a [DueTimer],
) -> Result<BTreeMap<(SagaId, &'a str), bool>, StoreError> {
    let of_joins = due.iter().filter(|timer| timer.kind == TimerKind::Arrivals);
    let joins: Vec<(SagaId, &str)> = of_joins.map(|timer| (timer.saga_id, timer.step.as_str())).collect();
    if joins.is_empty() {
        return Ok(BTreeMap::new());
    }
    let locked = shared.store.lock_steps(tx, &joins).await?;
    let waiting = |(join, locked): ((SagaId, &'a str), LockedStep)| {
        (locked.mark == Some(Mark::Waiting) && !locked.ended).then_some((join, locked.partly_compensated))
    };
    Ok(joins.into_iter().zip(locked).filter_map(waiting).collect())
}

async fn expire<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    mut tx: S::Tx,
    due: &[DueTimer],
) -> Result<(), StepError> {
    let now = shared.clock.now();
    let open = open_joins(shared, &mut tx, due).await?;
    // Other timers know of no event but their own.
    let is_partly = |timer: &DueTimer| {
        let join = (timer.saga_id, timer.step.as_str());
        timer.kind == TimerKind::Arrivals && open.get(&join).copied().unwrap_or(false)
    };
    let mut by_step: BTreeMap<(&str, TimerKind), Vec<&DueTimer>> = BTreeMap::new();
    for timer in due {
        if timer.kind == TimerKind::Arrivals && !open.contains_key(&(timer.saga_id, timer.step.as_str())) {
            // Its last part has arrived, or it was closed.
            continue;
        }
        by_step.entry((&timer.step, timer.kind)).or_default().push(timer);
    }
    let mut changes = Changes::default();
    let (mut expired, mut user_spans) = (Vec::new(), Vec::new());
    for ((name, kind), timers) in by_step {
        let step = shared.participant.steps.iter().find(|step| step.spec.name == name);
        let Some((step, expire)) = step.and_then(|step| Some((step, step.expires(kind)?))) else {
            tracing::warn!(
                step = name,
                timers = timers.len(),
                "deadlines of a step that no longer declares one are dropped"
            );
            continue;
        };
        let sagas = timers.iter().map(|timer| timer.saga_id).collect();
        let contexts: Vec<SagaContext> = timers
            .iter()
            .map(|timer| SagaContext {
                partly_compensated: is_partly(timer),
                ..SagaContext::of(timer.saga_id, timer.trace.clone())
            })
            .collect();
        let new_spans: Vec<NewSpan> =
            timers.iter().map(|timer| shared.spans.new_span(&timer.trace, timer.saga_id)).collect();
        let spans = shared.spans.user(step.spec.name, &new_spans.iter().collect::<Vec<_>>());
        user_spans.extend(spans.clone());
        let lines = match &contexts[..] {
            [one] => one.lines(Some(step.spec.name)),
            many => tracing::error_span!("step", step = step.spec.name, sagas = many.len()),
        };
        let mut cx = Cx::new(&mut tx, now).of(&contexts);
        let ends = AssertUnwindSafe(expire(&mut cx, sagas)).catch_unwind();
        let ends = Around { lines, spans }.run(ends).await;
        let ends = ends.unwrap_or_else(|panic| Err(StepError::panicked(&*panic)))?;
        cx.take_waits(None)?;
        for ((timer, span), end) in timers.iter().zip(new_spans).zip(ends) {
            let outcome = if matches!(end, End::Quiet) { "quiet" } else { "fired" };
            expired.push((span.clone(), step.spec.name, timer.saga_id, outcome));
            if matches!(end, End::Quiet) {
                continue;
            }
            if kind == TimerKind::Arrivals {
                let (saga_id, step, op) = (timer.saga_id, step.spec.name, Op::Action);
                changes.marks.push(MarkChange {
                    saga_id,
                    step,
                    op,
                    mark: Mark::Refused,
                    effect_key: None,
                    round: None,
                });
            }
            let id = cause_id(timer);
            if shared.ends(&end) {
                changes.disarm.push(Disarm::all(timer.saga_id));
                changes.ended.push(Progress { saga_id: timer.saga_id, at: now });
                if shared.has_joins {
                    changes.close.push(timer.saga_id);
                }
            }
            let cause =
                Cause { source: "", id: &id, joins: false, step: step.spec.name, op: Op::Action, trace: &span.context };
            let publication = Publication { partly_compensated: is_partly(timer), ..Publication::default() };
            changes.outbox.extend(outbox_rows(shared, timer.saga_id, &cause, end, publication, now)?);
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
    user_spans.iter().for_each(|spans| drop(spans.keep()));
    for (span, step, saga_id, outcome) in expired {
        shared.spans.deadline(&span, step, saga_id, (now, end), outcome);
    }
    Ok(())
}

//! One transaction for many events: admit, decide, run the handlers, commit, publish. When a handler fails, the batch is
//! rolled back and redone event by event, so that one bad event never takes others with it.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, rc::Rc};

use futures::FutureExt;
use jiff::Timestamp;
use tracing::Instrument;

use super::{
    Shared,
    plan::{Count, Plan, label},
    spans::Ending,
    work::{Origin, Todo, Work},
};
use crate::{
    barrier::{Mark, Op, Skip, Verdict, decide},
    clock::{Clock, after},
    handler::{Cx, Seen},
    outcome::{ErrorClass, StepError},
    step::Input,
    store::{Admission, Changes, Phase, Store, StoreError},
    transport::Producer,
};

/// What became of an event in a committed transaction, or why it must be looked at alone.
#[derive(Debug)]
pub(super) enum Done {
    /// It is done with: handled, skipped, or safe in the table of parked events.
    Settled,
    /// Its start is recorded; now its effect may be called.
    CallEffect,
    /// That its effect must not hold is recorded; now it may be undone.
    Abandon,
    /// The step failed for this event; nothing of it was written.
    Failed(StepError),
}

/// What one transaction made of its events.
pub(super) struct Batch {
    pub(super) works: Vec<(Work, Done)>,
    /// The earliest time at which a parked saga or a timer written here is due.
    pub(super) due: Option<Timestamp>,
}

pub(super) enum Trouble {
    /// The database, not an event: the same batch is tried again later.
    Store(StoreError),
    /// A handler: the batch is redone event by event.
    Handler(StepError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Runs these events to the end of their transaction, however long the database makes us wait.
pub(super) async fn run<S: Store, P: Producer, C: Clock>(shared: Rc<Shared<S, P, C>>, mut works: Vec<Work>) -> Batch {
    let mut batch = Batch { works: Vec::with_capacity(works.len()), due: None };
    match transact(&shared, &works, &mut batch.due).await {
        Ok(done) => batch.works.extend(works.into_iter().zip(done)),
        Err(error) if works.len() == 1 => batch.works.extend(works.pop().map(|work| (work, Done::Failed(error)))),
        Err(error) => {
            tracing::debug!(%error, events = works.len(), "a batch failed and is redone event by event");
            for work in works {
                let alone = [work];
                let result = transact(&shared, &alone, &mut batch.due).await;
                let done = result.map_or_else(Done::Failed, |mut done| done.pop().unwrap_or(Done::Settled));
                let [work] = alone;
                batch.works.push((work, done));
            }
        }
    }
    batch
}

/// That many conflicts of one batch in a row are no coincidence: somebody holds what it needs, and readiness says so.
const MANY_CONFLICTS: u32 = 20;

/// Tries until the transaction commits or a handler fails.
async fn transact<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    works: &[Work],
    due: &mut Option<Timestamp>,
) -> Result<Vec<Done>, StepError> {
    let mut pause = shared.options.first_pause;
    let mut conflicts = 0;
    loop {
        let trouble = match attempt(shared, works, due).await {
            Ok(done) => {
                shared.health.set_waiting("database", None);
                return Ok(done);
            }
            Err(Trouble::Handler(error)) if error.class() != ErrorClass::Infrastructure => return Err(error),
            Err(Trouble::Store(StoreError::Rejected(why))) => return Err(StepError::permanent(why)),
            Err(Trouble::Handler(error)) => error,
            Err(Trouble::Store(error)) => error.into(),
        };
        // Deadlocks and serialisation failures are over as soon as the other transaction is.
        conflicts += 1;
        if trouble.is_conflict() && conflicts < MANY_CONFLICTS {
            tracing::debug!(error = %trouble, "a transaction conflicted and is run again");
            shared.clock.sleep(shared.options.first_pause / 10).await;
            continue;
        }
        shared.health.set_waiting("database", Some(trouble.to_string()));
        shared.clock.sleep(pause).await;
        pause = (pause * 2).min(shared.options.longest_pause);
    }
}

async fn attempt<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    works: &[Work],
    due: &mut Option<Timestamp>,
) -> Result<Vec<Done>, Trouble> {
    let now = shared.clock.now();
    let admitted: Vec<usize> = (0..works.len()).filter(|i| phase(&works[*i].todo).is_some()).collect();
    let admissions: Vec<Admission> = admitted.iter().filter_map(|i| admission(shared, &works[*i])).collect();
    let (mut tx, before) = shared.store.begin(&admissions, shared.options.patience).await?;

    let mut plan = Plan {
        now,
        changes: Changes::default(),
        counts: Vec::new(),
        due: None,
        outcomes: works.iter().map(|_| None).collect(),
    };
    let mut done: Vec<Option<Done>> = works.iter().map(|_| None).collect();
    let mut calls: BTreeMap<(usize, Op), Vec<usize>> = BTreeMap::new();
    let mut exhausted: Vec<usize> = Vec::new();

    for (&i, before) in admitted.iter().zip(&before) {
        let work = &works[i];
        let starts = matches!(work.todo, Todo::Start);
        match decide(work.op, *before) {
            Verdict::Run if matches!(work.todo, Todo::Void(_)) => {
                plan.finish_mark(work, Mark::Voiding);
                done[i] = Some(Done::Abandon);
            }
            Verdict::Void if matches!(work.todo, Todo::Exhaust(_)) => exhausted.push(i),
            // Its process was held up, and another one has begun to undo what this one is about to record: nothing of this
            // transaction may stay, the row in the inbox included.
            Verdict::Void if matches!(work.todo, Todo::Finish) => match works {
                [_] => return Ok(vec![Done::Abandon]),
                _ => return Err(Trouble::Handler(StepError::transient("overtaken by another process"))),
            },
            Verdict::Void => done[i] = Some(Done::Abandon),
            Verdict::Run if starts => done[i] = Some(Done::CallEffect),
            Verdict::Run if matches!(work.todo, Todo::Exhaust(_)) => exhausted.push(i),
            Verdict::Run => calls.entry((work.step, work.op)).or_default().push(i),
            Verdict::NullCompensation => {
                let half = shared.participant.steps[work.step].half(work.op);
                let null = half.and_then(|half| half.null.as_ref());
                let null =
                    null.ok_or_else(|| Trouble::Handler(StepError::permanent("the step has no compensation")))?;
                let end = null(&work.input.trigger).map_err(Trouble::Handler)?;
                plan.outcomes[i] = Some("null_compensation");
                plan.end(shared, work, end, true)?;
                if starts {
                    plan.finish_mark(work, Mark::Done);
                }
                done[i] = Some(Done::Settled);
            }
            Verdict::Skip(skip) => {
                plan.outcomes[i] = Some(skip_name(skip));
                plan.counts.push(Count::Skipped(i, skip));
                done[i] = Some(Done::Settled);
            }
            Verdict::Queue => {
                plan.queue(work);
                plan.outcomes[i] = Some("queued");
                done[i] = Some(Done::Settled);
                continue;
            }
        }
        if matches!(done[i], Some(Done::Settled)) {
            plan.settled(work, starts);
        }
    }

    for ((step, op), at) in calls {
        let inputs: Vec<Input> = at.iter().map(|i| works[*i].input.clone()).collect();
        let Some(half) = shared.participant.steps[step].half(op) else { continue };
        let seen: Vec<Seen> = at.iter().map(|i| works[*i].seen()).collect();
        let lines = lines(&works[at[0]], &seen);
        let mut cx = Cx::new(&mut tx, now).of(&seen);
        let began = shared.clock.now();
        let ends = AssertUnwindSafe((half.run)(&mut cx, inputs)).catch_unwind().instrument(lines).await;
        let took = shared.clock.now().duration_since(began).as_secs_f64();
        shared.metrics.handler_seconds.get_or_create(&label(&works[at[0]])).observe(took);
        let ends = ends.unwrap_or_else(|panic| Err(panicked(&*panic))).map_err(Trouble::Handler)?;
        for (&i, end) in at.iter().zip(ends) {
            plan.ran(shared, i, &works[i], end)?;
            done[i] = Some(Done::Settled);
        }
    }
    for i in exhausted {
        let Some(handler) = shared.participant.steps[works[i].step].action.exhausted.as_ref() else { continue };
        let seen = [works[i].seen()];
        let mut cx = Cx::new(&mut tx, now).of(&seen);
        let Todo::Exhaust(failure) = &works[i].todo else { continue };
        let end = AssertUnwindSafe(handler(&mut cx, works[i].input.trigger.clone(), failure)).catch_unwind();
        let end = end.instrument(works[i].lines()).await;
        let end = end.unwrap_or_else(|panic| Err(panicked(&*panic))).map_err(Trouble::Handler)?;
        plan.ran(shared, i, &works[i], end)?;
        done[i] = Some(Done::Settled);
    }
    for (i, work) in works.iter().enumerate() {
        if let Some(outcome) = plan.keep(work) {
            plan.outcomes[i] = Some(outcome);
            done[i] = Some(Done::Settled);
        }
    }

    let Plan { mut changes, counts, due: planned, outcomes, .. } = plan;
    let rows = changes.outbox.clone();
    changes.sent = shared.outbox.take_acknowledged();
    let sent = changes.sent.clone();
    let armed = changes.arm.len();
    let committed = match shared.store.commit(tx, changes).await {
        Ok(committed) => committed,
        Err(error) => {
            shared.outbox.put_back(&sent);
            if matches!(error, StoreError::Unavailable(_)) {
                shared.outbox.perhaps_committed(&rows);
            }
            return Err(error.into());
        }
    };
    let end = shared.clock.now();
    shared.progressed(&committed, end, &rows);
    shared.outbox.forgotten(&sent);
    shared.outbox.committed(rows);
    // The database counts from the transaction on: by now it is no earlier.
    let planned = planned.map(|pause| after(end, pause));
    *due = [*due, planned].into_iter().flatten().min();
    shared.metrics.deadlines_armed.inc_by(armed as u64);
    #[allow(clippy::cast_precision_loss, reason = "a batch is small")]
    shared.metrics.batch_events.observe(works.len() as f64);
    shared.metrics.transaction_seconds.observe(end.duration_since(now).as_secs_f64());
    for count in counts {
        count.add(shared, works);
    }
    let done: Vec<Done> = done.into_iter().map(|d| d.unwrap_or(Done::Settled)).collect();
    for ((work, done), outcome) in works.iter().zip(&done).zip(outcomes) {
        shared.spans.transaction(work, phase_name(&work.todo), (now, end), works.len());
        if matches!(done, Done::Settled) {
            let (error, parks) = match &work.todo {
                Todo::Park { reason, .. } => (Some(reason.as_str()), true),
                Todo::Hold { reason } => (Some(reason.as_str()), true),
                _ => (None, false),
            };
            shared.spans.process(work, end, &Ending { outcome: outcome.unwrap_or("none"), error });
            if !parks {
                shared.spans.parked(work, end);
            }
        }
    }
    Ok(done)
}

/// How much of the step the event's transaction does; none when the event only moves to the table of parked ones.
fn phase(todo: &Todo) -> Option<Phase> {
    match todo {
        Todo::Whole => Some(Phase::Whole),
        Todo::Start => Some(Phase::Start),
        Todo::Finish => Some(Phase::Finish),
        Todo::Void(_) => Some(Phase::Void),
        Todo::Exhaust(_) => Some(Phase::Finish),
        Todo::Park { .. } | Todo::Hold { .. } | Todo::Abandon(_) => None,
    }
}

/// As spans say it.
fn phase_name(todo: &Todo) -> &'static str {
    match todo {
        Todo::Whole => "whole",
        Todo::Start => "start",
        Todo::Finish => "finish",
        Todo::Void(_) | Todo::Abandon(_) => "void",
        Todo::Exhaust(_) => "exhausted",
        Todo::Park { .. } => "park",
        Todo::Hold { .. } => "hold",
    }
}

fn skip_name(skip: Skip) -> &'static str {
    match skip {
        Skip::Duplicate => "duplicate",
        Skip::Late => "late",
    }
}

/// What lines say that are logged while a handler runs: whose they are when it runs for one saga alone.
fn lines(work: &Work, seen: &[Seen]) -> tracing::Span {
    match seen {
        [one] => one.lines(Some(work.half)),
        many => tracing::error_span!("step", step = work.half, sagas = many.len()),
    }
}

fn admission<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, work: &Work) -> Option<Admission> {
    let step = &shared.participant.steps[work.step];
    let phase = match phase(&work.todo)? {
        // A step without an effect never recorded a start: its refusal is all there is of it.
        Phase::Finish if step.half(work.op).is_some_and(|half| half.effect.is_none()) => Phase::Whole,
        phase => phase,
    };
    Some(Admission {
        event_id: work.envelope.event_id.clone(),
        saga_id: work.saga_id(),
        step: step.spec.name,
        op: work.op,
        phase,
        from_parked: matches!(work.origin, Origin::Parked { .. }),
    })
}

pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> StepError {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    StepError::permanent(format!("the handler panicked: {text}"))
}

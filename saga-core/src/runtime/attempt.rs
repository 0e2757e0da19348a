//! One transaction for many events: admit, decide, run the handlers, commit, publish, count.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use jiff::Timestamp;
use tracing::Instrument;

use super::{
    Shared,
    plan::{Count, Due, Plan, label},
    spans::Ending,
    stage::{Happened, Stage},
    work::{Keys, Origin, Work},
};
use crate::{
    barrier::{Before, Mark, Op, Row, Skip, Verdict, decide},
    clock::{Clock, after},
    handler::{Cx, Seen},
    identity,
    outcome::StepError,
    step::Input,
    store::{Admission, Phase, Store, StoreError},
    transport::Producer,
};

/// What became of an event in a transaction that committed.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) happened: Happened,
    /// What its effect is to be called with.
    pub(super) keys: Keys,
    /// Where it is found from now on.
    pub(super) origin: Origin,
}

/// Why a transaction did not commit, and how far it had come.
pub(super) struct Trouble {
    pub(super) error: StepError,
    pub(super) at: At,
}

/// Where a transaction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// In what the framework alone does.
    Framework,
    /// While a handler ran.
    Handler,
    /// At the commit of what handlers have written.
    Commit,
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self { error: error.into(), at: At::Framework }
    }
}

impl From<StepError> for Trouble {
    fn from(error: StepError) -> Self {
        Self { error, at: At::Handler }
    }
}

/// A transaction that committed.
pub(super) struct Transaction {
    /// One for each event, in their order.
    pub(super) done: Vec<Done>,
    /// For each, whether its handler ran: what was skipped, queued or null says nothing for its handler.
    pub(super) ran: Vec<bool>,
    /// When the first of what is written here is due.
    pub(super) due: Due<Timestamp>,
}

/// Runs one transaction, which waits for another one's lock no longer than `patience`.
pub(super) async fn attempt<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    works: &[Work],
    patience: Duration,
) -> Result<Transaction, Trouble> {
    let now = shared.clock.now();
    let admissions: Vec<Admission> = works.iter().map(|work| admission(shared, work)).collect();
    let (mut tx, before) = shared.store.begin(&admissions, patience).await?;
    let mut attempt = Attempt::new(shared, works, now);
    for (i, (admission, before)) in admissions.iter().zip(&before).enumerate() {
        attempt.decide(i, admission, before)?;
    }
    attempt.run_handlers(&mut tx).await?;
    attempt.run_refusals(&mut tx).await?;
    attempt.commit(tx).await
}

struct Attempt<'a, S: Store, P: Producer, C: Clock> {
    shared: &'a Shared<S, P, C>,
    works: &'a [Work],
    plan: Plan,
    /// None of an event that is still to be decided.
    done: Vec<Option<Done>>,
    /// Those whose handler runs, by the half of a step, since a handler may take many at once.
    calls: BTreeMap<(usize, Op), Vec<usize>>,
    /// Those that are refused because their retries are used up.
    refusals: Vec<usize>,
    /// The place of the parked action that a compensation overtakes.
    overtakes: Vec<Option<i64>>,
    /// Whether there was a row before, which says something else than the end.
    found: Vec<bool>,
    /// Whether its handler has run.
    ran: Vec<bool>,
}

impl<'a, S: Store, P: Producer, C: Clock> Attempt<'a, S, P, C> {
    fn new(shared: &'a Shared<S, P, C>, works: &'a [Work], now: Timestamp) -> Self {
        Self {
            shared,
            works,
            plan: Plan::new(now, works.len()),
            done: works.iter().map(|_| None).collect(),
            calls: BTreeMap::new(),
            refusals: Vec::new(),
            overtakes: vec![None; works.len()],
            found: vec![false; works.len()],
            ran: vec![false; works.len()],
        }
    }

    /// What is to be done with an event, given what was there before.
    fn decide(&mut self, i: usize, admission: &Admission, before: &Before) -> Result<(), StepError> {
        let work = &self.works[i];
        let keys = keys(self.shared, work, before);
        self.overtakes[i] = before.overtakes;
        self.found[i] = before.row(work.op).is_some();
        match (decide(work.op, &admission.cause, before), work.stage) {
            (Verdict::Skip(skip), _) => {
                self.plan.outcomes[i] = Some(skip_name(skip));
                self.plan.counts.push(Count::Skipped(i, skip));
                self.ended(i);
            }
            (_, Stage::Park | Stage::Hold) => {
                self.plan.keep(i, work, before.overtakes);
                self.is(i, Happened::Kept, keys);
            }
            (Verdict::Queue, _) => {
                self.plan.queue(work);
                self.plan.outcomes[i] = Some("queued");
                self.is(i, Happened::Ended, keys);
            }
            (Verdict::NullCompensation, stage) => {
                let half = self.shared.participant.steps[work.step].half(work.op);
                let null = half.and_then(|half| half.null.as_ref());
                let null = null.ok_or_else(|| StepError::permanent("the step has no compensation"))?;
                self.plan.outcomes[i] = Some("null_compensation");
                self.plan.publish(self.shared, work, null(&work.input.trigger)?, true)?;
                if stage != Stage::Whole {
                    self.plan.mark(work, Mark::Done);
                }
                self.ended(i);
            }
            (Verdict::Run | Verdict::Void, Stage::Exhaust) => self.refusals.push(i),
            (Verdict::Run, Stage::Void) => {
                self.plan.mark(work, Mark::Voiding);
                self.is(i, Happened::Voiding, keys);
            }
            (Verdict::Void, _) => self.is(i, Happened::Voiding, keys),
            (Verdict::Run, Stage::Start) => {
                let moved = before.overtakes.map(|action| self.plan.overtake(self.shared, (i, work), action));
                let origin = moved.unwrap_or(work.origin);
                self.done[i] = Some(Done { happened: Happened::Started, keys, origin });
            }
            (Verdict::Run, _) => self.calls.entry((work.step, work.op)).or_default().push(i),
        }
        Ok(())
    }

    fn is(&mut self, i: usize, happened: Happened, keys: Keys) {
        self.done[i] = Some(Done { happened, keys, origin: self.works[i].origin });
    }

    fn ended(&mut self, i: usize) {
        self.plan.settled(i, &self.works[i], self.overtakes[i]);
        self.is(i, Happened::Ended, self.works[i].keys);
    }

    fn ran(&mut self, i: usize, end: crate::step::End) -> Result<(), StepError> {
        self.plan.ran(self.shared, (i, &self.works[i]), end, self.found[i])?;
        self.ran[i] = true;
        self.ended(i);
        Ok(())
    }

    async fn run_handlers(&mut self, tx: &mut S::Tx) -> Result<(), StepError> {
        let (shared, works) = (self.shared, self.works);
        for ((step, op), at) in std::mem::take(&mut self.calls) {
            let inputs: Vec<Input> = at.iter().map(|i| works[*i].input.clone()).collect();
            let half = shared.participant.steps[step].half(op);
            let half = half.ok_or_else(|| StepError::permanent("the step has no compensation"))?;
            let seen: Vec<Seen> = at.iter().map(|i| works[*i].seen()).collect();
            let lines = lines(&works[at[0]], &seen);
            let mut cx = Cx::new(tx, self.plan.now).of(&seen);
            let began = shared.clock.now();
            let ends = AssertUnwindSafe((half.run)(&mut cx, inputs)).catch_unwind().instrument(lines).await;
            let took = shared.clock.now().duration_since(began).as_secs_f64();
            shared.metrics.handler_seconds.get_or_create(&label(&works[at[0]])).observe(took);
            let ends = ends.unwrap_or_else(|panic| Err(panicked(&*panic)))?;
            for (&i, end) in at.iter().zip(ends) {
                self.ran(i, end)?;
            }
        }
        Ok(())
    }

    async fn run_refusals(&mut self, tx: &mut S::Tx) -> Result<(), StepError> {
        for i in std::mem::take(&mut self.refusals) {
            let work = &self.works[i];
            let handler = self.shared.participant.steps[work.step].action.exhausted.as_ref();
            let (Some(handler), Some(failure)) = (handler, &work.failure) else { continue };
            let seen = [work.seen()];
            let mut cx = Cx::new(tx, self.plan.now).of(&seen);
            let end = AssertUnwindSafe(handler(&mut cx, work.input.trigger.clone(), failure)).catch_unwind();
            let end = end.instrument(work.lines()).await;
            self.ran(i, end.unwrap_or_else(|panic| Err(panicked(&*panic)))?)?;
        }
        Ok(())
    }

    async fn commit(self, tx: S::Tx) -> Result<Transaction, Trouble> {
        let Self { shared, works, plan, done, ran, .. } = self;
        // What nobody has decided must not count as done with.
        let Some(done) = done.into_iter().collect::<Option<Vec<Done>>>() else {
            return Err(StepError::permanent("a defect of the framework: an event was not decided").into());
        };
        let Plan { now, mut changes, counts, due, outcomes } = plan;
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
                let at = if ran.contains(&true) { At::Commit } else { At::Framework };
                return Err(Trouble { error: error.into(), at });
            }
        };
        let end = shared.clock.now();
        shared.progressed(&committed, end, &rows);
        shared.outbox.forgotten(&sent);
        shared.outbox.committed(rows);
        shared.metrics.deadlines_armed.inc_by(armed as u64);
        #[allow(clippy::cast_precision_loss, reason = "a batch is small")]
        shared.metrics.batch_events.observe(works.len() as f64);
        shared.metrics.transaction_seconds.observe(end.duration_since(now).as_secs_f64());
        for count in counts {
            count.add(shared, works);
        }
        for ((work, done), outcome) in works.iter().zip(&done).zip(outcomes) {
            trace(shared, work, done, outcome, ((now, end), works.len()));
        }
        // The database counts from the transaction on: by now it is no earlier.
        Ok(Transaction { done, ran, due: due.map(|pause| after(end, pause)) })
    }
}

/// The spans of an event's part in a transaction, and of its handling when it ended here.
fn trace<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    work: &Work,
    done: &Done,
    outcome: Option<&'static str>,
    (times, events): ((Timestamp, Timestamp), usize),
) {
    shared.spans.transaction(work, phase_name(work.stage), times, events);
    let end = times.1;
    match done.happened {
        Happened::Ended => {
            shared.spans.process(work, end, &Ending { outcome: outcome.unwrap_or("none"), error: None });
            shared.spans.parked(work, end);
        }
        Happened::Kept => {
            let reason = work.reason();
            let ending = Ending { outcome: outcome.unwrap_or("none"), error: Some(&reason) };
            shared.spans.process(work, end, &ending);
        }
        _ => {}
    }
}

fn admission<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, work: &Work) -> Admission {
    let step = &shared.participant.steps[work.step];
    let (participant, op) = (shared.participant.name, work.op);
    let keeps = matches!(work.stage, Stage::Park | Stage::Hold);
    let phase = match work.stage {
        Stage::Start => Phase::Start,
        Stage::Finish => Phase::Finish,
        // A step without an effect never recorded a start: its refusal is all there is of it.
        Stage::Exhaust if step.action.effect.is_some() => Phase::Finish,
        Stage::Whole | Stage::Exhaust => Phase::Whole,
        _ => Phase::Look,
    };
    let effect_key = (phase == Phase::Start).then(|| identity::effect_key(participant, work.saga_id(), work.name, op));
    Admission {
        cause: work.cause(),
        saga_id: work.saga_id(),
        step: work.name,
        op,
        phase,
        effect_key,
        from_parked: keeps || matches!(work.origin, Origin::Parked { .. }),
    }
}

/// The keys of an event's effect: those that are stored, so that no upgrade changes the key of a call that is under way.
fn keys<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, work: &Work, before: &Before) -> Keys {
    let (saga, step, declared) = (work.saga_id(), work.name, &shared.participant.steps[work.step]);
    let calls = declared.action.effect.is_some();
    if !calls && declared.undo.as_ref().is_none_or(|undo| undo.effect.is_none()) {
        return Keys::default();
    }
    let key = |row: &Option<Row>, op| match row {
        Some(Row { effect_key: Some(key), .. }) => *key,
        // Started before keys were stored.
        Some(Row { effect_key: None, .. }) => identity::unstored_effect_key(saga, step, op),
        None => identity::effect_key(shared.participant.name, saga, step, op),
    };
    let old_action = before.action.as_ref().is_some_and(|row| row.effect_key.is_none());
    Keys {
        action: if calls { key(&before.action, Op::Action) } else { key(&None, Op::Action) },
        // What undoes a call that an earlier version made goes by that version's rule as well.
        compensation: if calls && old_action {
            identity::unstored_effect_key(saga, step, Op::Compensate)
        } else {
            key(&before.compensation, Op::Compensate)
        },
    }
}

/// As spans say it.
fn phase_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Start => "start",
        Stage::Finish => "finish",
        Stage::Void | Stage::Abandon => "void",
        Stage::Exhaust => "exhausted",
        Stage::Park => "park",
        Stage::Hold => "hold",
        Stage::Whole | Stage::Call | Stage::DeadLetter | Stage::Settled => "whole",
    }
}

fn skip_name(skip: Skip) -> &'static str {
    match skip {
        Skip::Duplicate => "duplicate",
        Skip::Alternative => "alternative",
        Skip::Repetition => "repetition",
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

pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> StepError {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    StepError::permanent(format!("the handler panicked: {text}"))
}

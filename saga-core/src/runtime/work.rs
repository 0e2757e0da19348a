//! An event in hand: where it came from, what it says, and what is to be done with it next.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    barrier::Op,
    dead_letter::{Poison, Reason},
    envelope::{Envelope, open},
    event::SagaId,
    handler::Seen,
    outcome::StepError,
    participant::Participant,
    record::Record,
    step::Input,
    store::Store,
    trace::Place,
};

/// Derived ids live under this namespace, which is itself the UUIDv5 of `saga` in the URL namespace.
const NAMESPACE: Uuid = Uuid::from_u128(0x8b6c_9f2e_7f04_5d5c_9c57_4a1d_3f0e_6b21);

/// Between the attempts of a compensation whose retry policy is used up.
const COMPENSATION_PAUSE: Duration = Duration::from_secs(30);

/// Where an event came from, and so what is due when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A partition: its offset is done. The epoch is that of the partition's assignment.
    Partition { epoch: u64 },
    /// The head of a parked saga.
    Parked { seq: i64 },
}

/// What the next transaction does with the event.
#[derive(Debug)]
pub(super) enum Todo {
    /// All of the step.
    Whole,
    /// Record that the effect is about to be called.
    Start,
    /// Record what the effect answered.
    Finish,
    /// The retries are used up: record that no attempt may hold.
    Void(StepError),
    /// Recorded: now make sure of it, outside any transaction.
    Abandon(StepError),
    /// The retries are used up: refuse as declared.
    Exhaust(StepError),
    /// Keep it in the database for a later attempt.
    Park { attempts: u32, pause: Duration, failed_at: Timestamp, reason: String },
    /// Its dead letter is out: keep it as a head that holds its saga.
    Hold { reason: String },
}

/// An event in hand.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) origin: Origin,
    pub(super) record: Arc<Record>,
    pub(super) envelope: Envelope,
    pub(super) step: usize,
    /// The step's name.
    pub(super) name: &'static str,
    /// The name of the handler: the step's, or that of its compensation.
    pub(super) half: &'static str,
    pub(super) op: Op,
    pub(super) input: Input,
    pub(super) todo: Todo,
    /// Failed attempts so far.
    pub(super) attempts: u32,
    pub(super) failed_at: Option<Timestamp>,
    /// Where its span is told.
    pub(super) place: Place,
    /// When it was taken in hand.
    pub(super) taken: Timestamp,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The data of an event may be personal: it never reaches a log.
        f.debug_struct("Input").field("answered", &self.answer.is_some()).finish_non_exhaustive()
    }
}

impl Work {
    pub(super) fn saga_id(&self) -> SagaId {
        self.envelope.saga_id
    }

    /// The trace that it belongs to, also when nothing is recorded of it.
    pub(super) fn seen(&self) -> Seen {
        Seen { saga_id: self.saga_id(), trace: self.place.context.clone() }
    }

    /// What every line that is logged about it says.
    pub(super) fn lines(&self) -> tracing::Span {
        self.seen().lines(Some(self.half))
    }
}

/// What a record is to this participant.
#[derive(Debug)]
pub(super) enum Reading {
    /// A type that it does not consume.
    PassOver,
    /// It will never be able to handle it.
    Poison(Poison),
    /// It starts this step.
    Event(Box<Work>),
}

/// Reads a record. Pure.
pub(super) fn read<S: Store>(participant: &Participant<S>, record: Arc<Record>, origin: Origin) -> Reading {
    let result = (|| {
        let opened = open(&record)?;
        let Some((step, op)) = participant.route(opened.event_type()) else { return Ok(None) };
        let (envelope, data) = opened.envelope()?;
        let declared = &participant.steps[step];
        let half = declared.half(op).ok_or_else(|| Poison::new(Reason::Permanent, "the step has no compensation"))?;
        let (trigger, saga_id) = (half.decode)(&envelope.event_type, envelope.version, &data)
            .map_err(|e| Poison::new(e.reason(), e.to_string()))?;
        if saga_id != envelope.saga_id {
            return Err(Poison::new(Reason::KeyMismatch, "the key is not the saga of the data"));
        }
        let todo = if half.effect.is_some() { Todo::Start } else { Todo::Whole };
        let input = Input { trigger, answer: None };
        let name = declared.spec.name;
        let undo = declared.spec.undo.as_ref().filter(|_| op == Op::Compensate);
        Ok(Some((envelope, step, (name, undo.map_or(name, |undo| undo.name)), op, input, todo)))
    })();
    match result {
        Ok(None) => Reading::PassOver,
        Err(poison) => Reading::Poison(poison),
        Ok(Some((envelope, step, (name, half), op, input, todo))) => {
            let (attempts, failed_at, place, taken) = (0, None, Place::default(), Timestamp::UNIX_EPOCH);
            let work =
                Work { origin, record, envelope, step, name, half, op, input, todo, attempts, failed_at, place, taken };
            Reading::Event(Box::new(work))
        }
    }
}

/// The id of the event that a step publishes: the same however often the step is executed.
pub(super) fn derived_id(cause: &str, step: &str, op: Op) -> Uuid {
    let half = match op {
        Op::Action => "action",
        Op::Compensate => "compensate",
    };
    Uuid::new_v5(&NAMESPACE, format!("{cause}\n{step}\n{half}\n0").as_bytes())
}

/// The idempotency key of a step's effect: the same for every event that asks for the same thing.
pub(super) fn effect_key(saga: SagaId, step: &str, op: Op) -> Uuid {
    derived_id(&format!("effect/{saga}"), step, op)
}

/// A number in `0.0..1.0` that spreads retries without a source of randomness, so that a run can be repeated.
pub(super) fn jitter(saga: SagaId, attempt: u32) -> f64 {
    let id = Uuid::new_v5(&NAMESPACE, format!("{saga}/{attempt}").as_bytes());
    let (high, _) = id.as_u64_pair();
    #[allow(clippy::cast_precision_loss, reason = "32 bits fit a double")]
    let share = (high >> 32) as f64 / 4_294_967_296.0;
    share
}

/// What follows a failed attempt. Pure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Try again: the saga is parked for so long.
    Retry { attempts: u32, pause: Duration },
    /// Run the handler that the step declares for this end.
    Refuse,
    /// Publish a dead letter and hold the saga.
    DeadLetter(Reason),
}

/// The rule for a failure that concerns one saga.
pub(super) fn after_failure<S: Store>(participant: &Participant<S>, work: &Work, failure: &StepError) -> After {
    let step = &participant.steps[work.step];
    if failure.class() == crate::ErrorClass::Permanent {
        return After::DeadLetter(Reason::Permanent);
    }
    let attempts = work.attempts + 1;
    match step.retry.delay(attempts, jitter(work.saga_id(), attempts)) {
        Some(pause) => After::Retry { attempts, pause },
        // A compensation is owed: as long as its failure may pass, it is tried again.
        None if work.op == Op::Compensate => After::Retry { attempts, pause: COMPENSATION_PAUSE },
        None if step.action.exhausted.is_some() && !matches!(work.todo, Todo::Exhaust(_)) => After::Refuse,
        None => After::DeadLetter(Reason::RetriesExhausted),
    }
}

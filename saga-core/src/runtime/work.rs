//! An event in hand: where it came from, what it says, and what is to be done with it next.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use super::{breaker::Pass, stage::Stage};
use crate::{
    barrier::{Cause, Op},
    dead_letter::{Poison, Reason},
    envelope::{Envelope, open},
    event::SagaId,
    handler::Seen,
    identity,
    outcome::StepError,
    participant::Participant,
    record::Record,
    retry::RetryPolicy,
    step::Input,
    store::{ParkedAt, Store},
    trace::Place,
};

/// Between the attempts of a compensation whose retry policy is used up.
const COMPENSATION_PAUSE: Duration = Duration::from_secs(30);

/// Between the attempts to make sure that an effect whose retries are used up does not hold. Like a compensation it is owed,
/// and is tried until it is done.
const VOIDS: RetryPolicy = RetryPolicy::exponential(Duration::from_secs(1), COMPENSATION_PAUSE, u32::MAX);

/// Where an event came from, and so what is due when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A partition: its offset is done. The epoch is that of the partition's assignment.
    Partition { epoch: u64 },
    /// The head of a parked saga.
    Parked { seq: i64 },
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
    pub(super) stage: Stage,
    /// Failed attempts so far.
    pub(super) attempts: u32,
    pub(super) failed_at: Option<Timestamp>,
    /// What went wrong last.
    pub(super) failure: Option<StepError>,
    /// Why it is given up on, once it is.
    pub(super) gives_up: Reason,
    /// After which time it is tried again, once it is parked.
    pub(super) pause: Duration,
    /// It is one of those that are tried of what meets everybody: when it has to wait for the next turn, it is not counted
    /// twice.
    pub(super) is_admitted: bool,
    /// How long the transaction took that failed with it alone.
    pub(super) took: Duration,
    /// Its event as one value: see [`identity::cause`].
    pub(super) cause_id: Uuid,
    /// What its effect is called with, known from its start on.
    pub(super) keys: Keys,
    /// The breaker's permission to call its effect, asked for before the start is recorded.
    pub(super) pass: Option<Pass>,
    /// Where its span is told.
    pub(super) place: Place,
    /// When it was taken in hand.
    pub(super) taken: Timestamp,
}

/// The idempotency keys of an effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Keys {
    /// The action's.
    pub(super) action: Uuid,
    /// That of what undoes it.
    pub(super) compensation: Uuid,
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

    /// Its event, as barrier rows keep it.
    pub(super) fn cause(&self) -> Cause {
        Cause { id: self.cause_id, event_type: self.envelope.event_type.clone() }
    }

    /// Its place among the parked events, when it came from there.
    pub(super) fn parked_at(&self) -> Option<ParkedAt> {
        match self.origin {
            Origin::Parked { seq } => Some(ParkedAt { saga_id: self.saga_id(), seq, op: self.op }),
            Origin::Partition { .. } => None,
        }
    }

    /// The outside system fails for everybody and is left alone until then: no attempt is used up.
    pub(super) fn not_called(&mut self, until: Timestamp, now: Timestamp) {
        self.lines().in_scope(|| tracing::debug!(%until, "parked: the circuit is open"));
        self.failed_at.get_or_insert(now);
        self.pause = Duration::try_from(until.duration_since(now)).unwrap_or_default();
        let why = "the outside system fails for everybody: not called (circuit open)";
        self.failure = Some(StepError::transient(why));
    }

    /// The database cannot do its step, whoever's it is: it waits, and has used up no attempt. Not all for as long, so
    /// that each time others are the first to be tried again.
    pub(super) fn held(&mut self, why: &str, now: Timestamp, pause: Duration) {
        self.failed_at.get_or_insert(now);
        self.pause = pause.mul_f64(0.5 + self.turn(now));
        self.failure = Some(StepError::transient(why));
    }

    /// A number in `0.0..1.0` of its saga's own, another one each second.
    pub(super) fn turn(&self, now: Timestamp) -> f64 {
        identity::jitter(self.saga_id(), u32::try_from(now.as_second() & 0xffff_ffff).unwrap_or_default())
    }

    /// What went wrong last, for an operator.
    pub(super) fn reason(&self) -> String {
        self.failure.as_ref().map(ToString::to_string).unwrap_or_default()
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
        let stage = if half.effect.is_some() { Stage::Start } else { Stage::Whole };
        let input = Input { trigger, answer: None };
        let name = declared.spec.name;
        let undo = declared.spec.undo.as_ref().filter(|_| op == Op::Compensate);
        Ok(Some((envelope, step, (name, undo.map_or(name, |undo| undo.name)), op, input, stage)))
    })();
    match result {
        Ok(None) => Reading::PassOver,
        Err(poison) => Reading::Poison(poison),
        Ok(Some((envelope, step, (name, half), op, input, stage))) => Reading::Event(Box::new(Work {
            cause_id: envelope.identity(),
            origin,
            record,
            envelope,
            step,
            name,
            half,
            op,
            input,
            stage,
            attempts: 0,
            failed_at: None,
            failure: None,
            gives_up: Reason::Permanent,
            pause: Duration::ZERO,
            is_admitted: false,
            took: Duration::ZERO,
            keys: Keys::default(),
            pass: None,
            place: Place::default(),
            taken: Timestamp::UNIX_EPOCH,
        })),
    }
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
    let jitter = identity::jitter(work.saga_id(), attempts);
    if work.stage == Stage::Abandon {
        let failed_voids = attempts.saturating_sub(step.retry.used_up_after()) + 1;
        let pause = VOIDS.delay(failed_voids, jitter).unwrap_or(COMPENSATION_PAUSE);
        return After::Retry { attempts, pause };
    }
    match step.retry.delay(attempts, jitter) {
        Some(pause) => After::Retry { attempts, pause },
        // A compensation is owed: as long as its failure may pass, it is tried again.
        None if work.op == Op::Compensate => After::Retry { attempts, pause: COMPENSATION_PAUSE },
        None if step.action.exhausted.is_some() && work.stage != Stage::Exhaust => After::Refuse,
        None => After::DeadLetter(Reason::RetriesExhausted),
    }
}

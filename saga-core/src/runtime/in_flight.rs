//! An event in hand: where it came from, what it says, and what is to be done with it next.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use crate::runtime::{effects::breaker::Pass, stage::Stage};
use crate::{
    barrier::{Cause, Op},
    dead_letter::Reason,
    envelope::Envelope,
    event::SagaId,
    handler::Seen,
    identity,
    outcome::StepError,
    record::Record,
    step::Input,
    store::ParkedAt,
    trace::Place,
};

/// Where an event came from, and so what is due when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakenFrom {
    /// A partition: its offset is done. The epoch is that of the partition's assignment.
    Partition { epoch: u64 },
    /// The head of a parked saga.
    Parked { seq: i64 },
}

/// An event in hand.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) origin: TakenFrom,
    pub(crate) record: Arc<Record>,
    pub(crate) envelope: Envelope,
    pub(crate) step: usize,
    /// The step's name.
    pub(crate) name: &'static str,
    /// The name of the handler: the step's, or that of its compensation.
    pub(crate) half: &'static str,
    pub(crate) op: Op,
    pub(crate) input: Input,
    pub(crate) stage: Stage,
    /// Failed attempts so far.
    pub(crate) attempts: u32,
    pub(crate) failed_at: Option<Timestamp>,
    /// What went wrong last.
    pub(crate) failure: Option<StepError>,
    /// Why it is given up on, once it is.
    pub(crate) dead_letter_reason: Reason,
    /// After which time it is tried again, once it is parked.
    pub(crate) pause: Duration,
    /// It is one of those that are tried of what meets everybody: when it has to wait for the next turn, it is not counted
    /// twice.
    pub(crate) is_admitted: bool,
    /// How long the transaction took that failed with it alone.
    pub(crate) took: Duration,
    /// Its event as one value: see [`identity::cause`].
    pub(crate) cause_id: Uuid,
    /// What its effect is called with, known from its start on.
    pub(crate) keys: Keys,
    /// The breaker's permission to call its effect, asked for before the start is recorded.
    pub(crate) pass: Option<Pass>,
    /// Where its span is told.
    pub(crate) place: Place,
    /// When it was taken in hand.
    pub(crate) taken: Timestamp,
}

/// The idempotency keys of an effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    /// The action's.
    pub(crate) action: Uuid,
    /// That of what undoes it.
    pub(crate) compensation: Uuid,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The data of an event may be personal: it never reaches a log.
        f.debug_struct("Input").field("answered", &self.answer.is_some()).finish_non_exhaustive()
    }
}

impl InFlight {
    pub(crate) fn saga_id(&self) -> SagaId {
        self.envelope.saga_id
    }

    /// Its event, as barrier rows keep it.
    pub(crate) fn cause(&self) -> Cause {
        Cause { id: self.cause_id, event_type: self.envelope.event_type.clone() }
    }

    /// Its place among the parked events, when it came from there.
    pub(crate) fn parked_at(&self) -> Option<ParkedAt> {
        match self.origin {
            TakenFrom::Parked { seq } => Some(ParkedAt { saga_id: self.saga_id(), seq, op: self.op }),
            TakenFrom::Partition { .. } => None,
        }
    }

    /// The outside system fails for everybody and is left alone until then: no attempt is used up.
    pub(crate) fn not_called(&mut self, until: Timestamp, now: Timestamp) {
        self.lines().in_scope(|| tracing::debug!(%until, "parked: the circuit is open"));
        self.failed_at.get_or_insert(now);
        self.pause = Duration::try_from(until.duration_since(now)).unwrap_or_default();
        let why = "the outside system fails for everybody: not called (circuit open)";
        self.failure = Some(StepError::transient(why));
    }

    /// The database cannot do its step, whoever's it is: it waits, and has used up no attempt. Not all for as long, so
    /// that each time others are the first to be tried again.
    pub(crate) fn held(&mut self, why: &str, now: Timestamp, pause: Duration) {
        self.failed_at.get_or_insert(now);
        self.pause = pause.mul_f64(0.5 + self.turn(now));
        self.failure = Some(StepError::transient(why));
    }

    /// A number in `0.0..1.0` of its saga's own, another one each second.
    pub(crate) fn turn(&self, now: Timestamp) -> f64 {
        identity::jitter(self.saga_id(), u32::try_from(now.as_second() & 0xffff_ffff).unwrap_or_default())
    }

    /// What went wrong last, for an operator.
    pub(crate) fn reason(&self) -> String {
        self.failure.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// The trace that it belongs to, also when nothing is recorded of it.
    pub(crate) fn seen(&self) -> Seen {
        Seen { saga_id: self.saga_id(), trace: self.place.context.clone() }
    }

    /// What every line that is logged about it says.
    pub(crate) fn lines(&self) -> tracing::Span {
        self.seen().lines(Some(self.half))
    }
}

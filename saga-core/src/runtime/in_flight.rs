//! An event in flight: where it came from, what it says, and its next stage.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use crate::runtime::{effects::breaker::Pass, stage::Stage};
use crate::{
    barrier::{Cause, Op},
    dead_letter::Reason,
    envelope::Envelope,
    event::SagaId,
    handler::SagaContext,
    identity,
    outcome::StepError,
    record::Record,
    step::{Erased, Input},
    store::ParkedAt,
    trace::NewSpan,
};

/// Where an event was taken from, which says what to do when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakenFrom {
    /// A partition: mark its offset as done. The epoch is that of the partition's assignment.
    Partition { epoch: u64 },
    /// The head of a parked saga.
    Parked { seq: i64 },
}

/// An event in flight.
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
    /// Its decoded data.
    pub(crate) part: Erased,
    /// What its handler is given. For a part of a join, whole only once the others have arrived.
    pub(crate) input: Input,
    pub(crate) stage: Stage,
    /// The round of its step that it is handled for.
    pub(crate) round: u32,
    /// Failed attempts so far.
    pub(crate) attempts: u32,
    pub(crate) failed_at: Option<Timestamp>,
    /// The last failure.
    pub(crate) failure: Option<StepError>,
    /// The reason of its dead letter, once it has one.
    pub(crate) dead_letter_reason: Reason,
    /// How long it stays parked before the next attempt.
    pub(crate) pause: Duration,
    /// Whether it is a probe of a handler that fails for all sagas. A probe that waits for the next turn is counted once.
    pub(crate) is_admitted: bool,
    /// How long its own failed transaction took.
    pub(crate) took: Duration,
    /// The event's identity as one value: see [`identity::cause`].
    pub(crate) cause_id: Uuid,
    /// The keys of its effect, known from its start on.
    pub(crate) keys: Keys,
    /// The breaker's permission to call the effect, asked for before the start is recorded.
    pub(crate) pass: Option<Pass>,
    /// Its span.
    pub(crate) span: NewSpan,
    /// When it was taken.
    pub(crate) taken: Timestamp,
}

/// The idempotency keys of an effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    /// The action's.
    pub(crate) action: Uuid,
    /// The compensation's.
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

    /// The event, as barrier rows keep it.
    pub(crate) fn cause(&self) -> Cause {
        Cause { id: self.cause_id, event_type: self.envelope.event_type.clone() }
    }

    /// Its place among the parked events, if it is one of them.
    pub(crate) fn parked_at(&self) -> Option<ParkedAt> {
        match self.origin {
            TakenFrom::Parked { seq } => {
                Some(ParkedAt { saga_id: self.saga_id(), seq, op: self.op, round: Some(self.round) })
            }
            TakenFrom::Partition { .. } => None,
        }
    }

    /// Parks it until the breaker admits a call again. No attempt is used up.
    pub(crate) fn not_called(&mut self, until: Timestamp, now: Timestamp) {
        self.lines().in_scope(|| tracing::debug!(%until, "parked: the circuit is open"));
        self.failed_at.get_or_insert(now);
        self.pause = Duration::try_from(until.duration_since(now)).unwrap_or_default();
        let why = "the outside system fails for all sagas: not called (circuit open)";
        self.failure = Some(StepError::transient(why));
    }

    /// Parks it because its handler fails for all sagas. No attempt is used up. Pauses differ between sagas, so that each time
    /// others are tried first.
    pub(crate) fn held(&mut self, why: &str, now: Timestamp, pause: Duration) {
        self.failed_at.get_or_insert(now);
        self.pause = pause.mul_f64(0.5 + self.turn(now));
        self.failure = Some(StepError::transient(why));
    }

    /// A number in `0.0..1.0` that depends on the saga and changes each second.
    pub(crate) fn turn(&self, now: Timestamp) -> f64 {
        identity::jitter(self.saga_id(), u32::try_from(now.as_second() & 0xffff_ffff).unwrap_or_default())
    }

    /// The last failure, for an operator.
    pub(crate) fn reason(&self) -> String {
        self.failure.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// Its saga and trace, also when the trace is not sampled.
    pub(crate) fn saga_context(&self) -> SagaContext {
        SagaContext { round: self.round, ..SagaContext::of(self.saga_id(), self.span.context.clone()) }
    }

    /// The log span of everything that is logged about it.
    pub(crate) fn lines(&self) -> tracing::Span {
        self.saga_context().lines(Some(self.half))
    }
}

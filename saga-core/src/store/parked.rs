//! Parked events: what is written of them, and what is read back.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::{barrier::Op, event::SagaId, record::Record};

/// An event that is to be parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parking {
    /// The saga.
    pub saga_id: SagaId,
    /// See [`crate::identity::cause`].
    pub cause: Uuid,
    /// The event's id, for an operator.
    pub event_id: String,
    /// The step that it starts, or undoes.
    pub step: &'static str,
    /// Which of the two.
    pub op: Op,
    /// The event.
    pub record: Record,
    /// The attempts made so far.
    pub attempts: u32,
    /// After which time it is tried (again), once it is the head.
    pub pause: Duration,
    /// When it failed for the first time; none for one that only waits behind the head.
    pub failed_at: Option<Timestamp>,
    /// What went wrong last, for an operator; capped in length.
    pub reason: String,
    /// The event was dead-lettered and is kept as one that is never due, as after [`ParkChange::Block`].
    pub blocked: bool,
}

/// An event's place in its saga's queue. It is another event's as soon as a compensation has taken it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkedAt {
    /// The saga.
    pub saga_id: SagaId,
    /// See [`ParkedEvent::seq`].
    pub seq: i64,
    /// Which half of its step the event there asks for.
    pub op: Op,
}

/// A change of a parked saga. One of an event that is no longer at its place changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParkChange {
    /// Append an event to its saga's queue. A queue that was empty makes it the head, due after `pause`.
    ///
    /// One that is in the queue already, from the same topic, partition and offset, is a redelivery and changes nothing. From
    /// elsewhere it has been published once more, perhaps mended: its bytes replace those in the queue, and it is due again
    /// if it is the head.
    Append(Parking),
    /// A compensation takes the place of its own action, whose event is done with. Elsewhere in the queue it is removed.
    Overtake {
        /// The action's place.
        seq: i64,
        /// The compensation.
        by: Parking,
    },
    /// The head failed again.
    Retry {
        /// Its place.
        at: ParkedAt,
        /// The attempts made so far.
        attempts: u32,
        /// After which time it is tried again.
        pause: Duration,
        /// When it failed for the first time.
        failed_at: Timestamp,
        /// What went wrong last.
        reason: String,
    },
    /// The head was dead-lettered: it stays, never due, and blocks its saga's later events until an operator releases them.
    Block {
        /// Its place.
        at: ParkedAt,
        /// Why.
        reason: String,
    },
    /// The event is done with. When it was the head, the next event of the saga becomes the head, due at once.
    Remove {
        /// Its place.
        at: ParkedAt,
    },
}

/// What an event that was parked before places had a step is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedLabel {
    /// See [`ParkedEvent::seq`].
    pub seq: i64,
    /// See [`crate::identity::cause`].
    pub cause: Uuid,
    /// The step; empty when this version cannot read the event.
    pub step: &'static str,
    /// Which half of it.
    pub op: Op,
}

/// The head of a parked saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedEvent {
    /// Its place in the table; grows within a saga.
    pub seq: i64,
    /// The saga.
    pub saga_id: SagaId,
    /// The attempts made so far.
    pub attempts: u32,
    /// When it failed for the first time.
    pub failed_at: Option<Timestamp>,
    /// The event as it was consumed.
    pub record: Record,
}

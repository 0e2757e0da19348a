//! Parked events: what the runtime writes about them, and what it reads back.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::{barrier::Op, event::SagaId, record::Record};

/// An event to be parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parking {
    /// The saga.
    pub saga_id: SagaId,
    /// See [`crate::identity::cause`].
    pub cause: Uuid,
    /// The event's id, for an operator.
    pub event_id: String,
    /// The step that the event starts or compensates.
    pub step: &'static str,
    /// Action or compensation.
    pub op: Op,
    /// The event.
    pub record: Record,
    /// The attempts made so far.
    pub attempts: u32,
    /// The delay before it is tried (again), once it is the head.
    pub pause: Duration,
    /// When it failed for the first time; none for an event that only waits behind the head.
    pub failed_at: Option<Timestamp>,
    /// The last error, for an operator; capped in length.
    pub reason: String,
    /// The event was dead-lettered and is stored as a blocking head that is never due, as after [`ParkChange::Block`].
    pub blocked: bool,
    /// Stands aside: it waits for its next round, is due after `pause` wherever it is in the queue, and no other event waits
    /// for it.
    pub aside: bool,
    /// The round that it waits for, or in which it failed.
    pub round: u32,
}

/// An event's position in its saga's queue. A compensation may take the position over; it then belongs to the
/// compensation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkedAt {
    /// The saga.
    pub saga_id: SagaId,
    /// See [`ParkedEvent::seq`].
    pub seq: i64,
    /// Action or compensation: which of the two the event at this position asks for.
    pub op: Op,
    /// The round that the event at this position waits for or failed in; none for whichever.
    pub round: Option<u32>,
}

/// A change of a parked saga. A change for an event that is no longer at its position has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParkChange {
    /// Appends an event to its saga's queue. In an empty queue it becomes the head, due after `pause`.
    ///
    /// The same topic, partition and offset in the queue already: a redelivery, which changes nothing. The same event
    /// from elsewhere was published once more, perhaps repaired: its bytes replace those in the queue, and it is due
    /// again if it is the head.
    Append(Parking),
    /// A compensation takes the position of its own action, whose event is thereby settled. The compensation's own
    /// earlier entry in the queue is removed.
    Overtake {
        /// The action's position.
        seq: i64,
        /// The compensation.
        by: Parking,
    },
    /// The head failed again.
    Retry {
        /// Its position.
        at: ParkedAt,
        /// The attempts made so far.
        attempts: u32,
        /// The delay before it is tried again.
        pause: Duration,
        /// When it failed for the first time.
        failed_at: Timestamp,
        /// The last error.
        reason: String,
    },
    /// The step asks for another round: the event stands aside from now on, and the next event of the saga becomes the head
    /// in its place.
    Again {
        /// Its position.
        at: ParkedAt,
        /// The next round.
        round: u32,
        /// The delay before that.
        pause: Duration,
    },
    /// The event was dead-lettered: it stays, is never due, stands aside no longer, and blocks its saga's later events until
    /// an operator releases them.
    Block {
        /// Its position.
        at: ParkedAt,
        /// The reason.
        reason: String,
    },
    /// The event is settled. When it was the head, the next event of the saga becomes the head, due at once.
    Remove {
        /// Its position.
        at: ParkedAt,
    },
}

/// The step of an event that was parked before steps were stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedLabel {
    /// See [`ParkedEvent::seq`].
    pub seq: i64,
    /// See [`crate::identity::cause`].
    pub cause: Uuid,
    /// The step; empty when this version cannot read the event.
    pub step: &'static str,
    /// Action or compensation.
    pub op: Op,
}

/// The head of a parked saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedEvent {
    /// Its position in the table; grows within a saga.
    pub seq: i64,
    /// The saga.
    pub saga_id: SagaId,
    /// The attempts made so far.
    pub attempts: u32,
    /// When it failed for the first time.
    pub failed_at: Option<Timestamp>,
    /// The round that is due: 0 for an event that has not stood aside.
    pub round: u32,
    /// The event as it was consumed.
    pub record: Record,
}

//! Records that only repeat an event in flight, and what they have in common with it.

use std::sync::Arc;

use uuid::Uuid;

use crate::runtime::{
    consume::saga_queues::Queued,
    in_flight::{InFlight, TakenFrom},
};
use crate::{
    barrier::Op,
    record::{Record, TopicPartition},
};

/// A record that only repeats an event in flight.
#[derive(Debug)]
pub(crate) struct Repeat {
    pub(crate) partition: TopicPartition,
    pub(crate) epoch: u64,
    pub(crate) offset: i64,
    pub(crate) bytes: usize,
}

impl Repeat {
    /// One from a partition; a parked event has a row of its own to be removed.
    pub(crate) fn of(event: &InFlight) -> Option<Self> {
        let TakenFrom::Partition { epoch } = event.origin else { return None };
        let (partition, offset, bytes) = (event.record.topic_partition(), event.record.offset, event.record.size());
        Some(Self { partition, epoch, offset, bytes })
    }
}

/// What a record that only repeats an event has in common with it.
#[derive(Debug)]
pub(crate) struct DedupKey {
    cause: Uuid,
    half: (usize, Op),
    origin: TakenFrom,
    record: Arc<Record>,
}

impl PartialEq for DedupKey {
    /// The event, what it starts, the assignment in which it was read, and its bytes: a producer may give one id to events of
    /// several types, an event that was mended and published once more under its old id is another, and one that is
    /// redelivered must be handled should the earlier assignment's work be handed over.
    /// A record without an id is named after its place: there the headers say which event it is.
    fn eq(&self, other: &Self) -> bool {
        let is_partition = matches!(self.origin, TakenFrom::Partition { .. });
        let (one, two) = (&self.record, &other.record);
        is_partition
            && (self.half, self.origin) == (other.half, other.origin)
            && (one.partition, &one.topic, &one.value) == (two.partition, &two.topic, &two.value)
            && (self.cause == other.cause || one.headers == two.headers)
    }
}

impl Queued for InFlight {
    type DedupKey = DedupKey;

    fn dedup_key(&self) -> DedupKey {
        DedupKey { cause: self.cause_id, half: (self.step, self.op), origin: self.origin, record: self.record.clone() }
    }
}

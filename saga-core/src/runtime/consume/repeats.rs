//! Records that repeat an event in flight, and how they are recognised.

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

/// A record that repeats an event in flight.
#[derive(Debug)]
pub(crate) struct Repeat {
    pub(crate) partition: TopicPartition,
    pub(crate) epoch: u64,
    pub(crate) offset: i64,
    pub(crate) bytes: usize,
}

impl Repeat {
    /// The repetition of an event from a partition. A parked event has a row of its own to be removed.
    pub(crate) fn of(event: &InFlight) -> Option<Self> {
        let TakenFrom::Partition { epoch } = event.origin else { return None };
        let (partition, offset, bytes) = (event.record.topic_partition(), event.record.offset, event.record.size());
        Some(Self { partition, epoch, offset, bytes })
    }
}

/// What two records of one event have in common.
#[derive(Debug)]
pub(crate) struct DedupKey {
    cause: Uuid,
    half: (usize, Op),
    origin: TakenFrom,
    record: Arc<Record>,
}

impl PartialEq for DedupKey {
    /// Compares the event, the half of the step, the assignment and the bytes. A producer may give one id to events of several
    /// types. An event that was mended and published again under its old id differs in its bytes. A redelivery under a new
    /// assignment is handled by itself, because the earlier one may be dropped. A record without an id is identified by its
    /// position, so there the headers are compared.
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

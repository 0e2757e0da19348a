//! Records that only repeat an event in flight, and what they have in common with it.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    super::{
        lanes::Lined,
        work::{Origin, Work},
    },
    arrivals::size,
};
use crate::{
    barrier::Op,
    record::{Record, TopicPartition},
};

/// A record that only repeats an event in flight.
#[derive(Debug)]
pub(super) struct Repeat {
    pub(super) partition: TopicPartition,
    pub(super) epoch: u64,
    pub(super) offset: i64,
    pub(super) bytes: usize,
}

impl Repeat {
    /// One from a partition; a parked event has a row of its own to be removed.
    pub(super) fn of(work: &Work) -> Option<Self> {
        let Origin::Partition { epoch } = work.origin else { return None };
        let (partition, offset, bytes) = (work.record.topic_partition(), work.record.offset, size(&work.record));
        Some(Self { partition, epoch, offset, bytes })
    }
}

/// What a record that only repeats an event has in common with it.
#[derive(Debug)]
pub(crate) struct Likeness {
    cause: Uuid,
    half: (usize, Op),
    origin: Origin,
    record: Arc<Record>,
}

impl PartialEq for Likeness {
    /// The event, what it starts, the assignment in which it was read, and its bytes: a producer may give one id to events of
    /// several types, an event that was mended and published once more under its old id is another, and one that is
    /// redelivered must be handled should the earlier assignment's work be handed over.
    /// A record without an id is named after its place: there the headers say which event it is.
    fn eq(&self, other: &Self) -> bool {
        let is_partition = matches!(self.origin, Origin::Partition { .. });
        let (one, two) = (&self.record, &other.record);
        is_partition
            && (self.half, self.origin) == (other.half, other.origin)
            && (one.partition, &one.topic, &one.value) == (two.partition, &two.topic, &two.value)
            && (self.cause == other.cause || one.headers == two.headers)
    }
}

impl Lined for Work {
    type Likeness = Likeness;

    fn likeness(&self) -> Likeness {
        Likeness { cause: self.cause_id, half: (self.step, self.op), origin: self.origin, record: self.record.clone() }
    }
}

//! The assigned partitions: how far their logs are read, and which of them are fetched.

use std::collections::{BTreeMap, HashSet};

use rdkafka::{Offset, TopicPartitionList};
use saga_core::record::TopicPartition;

use super::topic_ids;

/// The partitions that are assigned to this consumer.
#[derive(Default)]
pub(super) struct Partitions {
    pub(super) assigned: BTreeMap<TopicPartition, Cursor>,
    /// Being revoked: offsets that the runtime stores until it releases them are committed.
    pub(super) leaving: BTreeMap<TopicPartition, Cursor>,
    /// Paused by the runtime.
    pub(super) paused: HashSet<TopicPartition>,
    /// All are paused, because the runtime takes nothing.
    pub(super) held: bool,
    /// Assignments that the runtime has not taken yet, by partition. Offsets that it stores until then belong to an
    /// earlier assignment, perhaps to another log.
    unannounced: BTreeMap<TopicPartition, usize>,
}

/// The position in a partition's log.
#[derive(Default, Debug)]
pub(super) struct Cursor {
    /// The topic's id, which is committed with the offsets.
    pub(super) topic_id: Option<String>,
    /// Whether the start position is known. Nothing is fetched before that.
    pub(super) begun: bool,
    /// The log was replaced: reading starts here, whatever is committed.
    pub(super) reset_to: Option<i64>,
    /// The next offset; none before it is known.
    pub(super) next: Option<i64>,
    /// Everything before this offset was read or is nothing to hand over, such as transaction markers.
    pub(super) passed: i64,
    /// The same at the last statistics, which may be older than the log's current start.
    pub(super) passing: i64,
}

/// How an offset follows the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    InOrder,
    /// Offsets from this one on are missing: compacted, transaction markers, or deleted.
    Gap(i64),
    /// The offset is lower than expected: the log was replaced.
    Back,
}

impl Cursor {
    pub(super) fn advance(&mut self, offset: i64) -> Continuity {
        let continuity = match self.next {
            Some(next) if offset < next => return Continuity::Back,
            Some(next) if offset > next => Continuity::Gap(next.max(self.passed)),
            _ => Continuity::InOrder,
        };
        self.next = Some(offset + 1);
        continuity
    }

    /// Takes the state of a log of which all fetched records were taken: it starts at `start`, and `next` is fetched
    /// next. Returns how many unread records were deleted.
    pub(super) fn drained(&mut self, start: i64, next: i64) -> u64 {
        let Some(expected) = self.next.map(|expected| expected.max(self.passed)) else { return 0 };
        let lost = u64::try_from(start - expected).unwrap_or_default();
        if lost > 0 {
            self.next = Some(start);
        }
        self.passed = self.passed.max(self.passing.min(next));
        self.passing = next;
        lost
    }
}

impl Partitions {
    /// Whether the partition is assigned and not fetched.
    pub(super) fn is_stopped(&self, partition: &TopicPartition) -> bool {
        self.held || self.paused.contains(partition) || !self.assigned.get(partition).is_some_and(|r| r.begun)
    }

    /// An `Assigned` signal for these partitions was queued.
    pub(super) fn announce(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            *self.unannounced.entry(partition.clone()).or_default() += 1;
        }
    }

    pub(super) fn announced(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            let left = self.unannounced.remove(partition).unwrap_or_default();
            if left > 1 {
                self.unannounced.insert(partition.clone(), left - 1);
            }
        }
    }

    /// The offsets that may be stored: those of assignments that the runtime has taken.
    pub(super) fn storable(&self, offsets: &[(TopicPartition, i64)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, next) in offsets {
            let cursor = self.leaving.get(partition).or_else(|| {
                let is_announced = !self.unannounced.contains_key(partition);
                is_announced.then(|| self.assigned.get(partition)).flatten()
            });
            if let Some(cursor) = cursor {
                add(&mut list, partition, *next, cursor.topic_id.as_deref());
            }
        }
        list
    }
}

/// Adds an offset to store or commit, with its topic's id as metadata.
pub(super) fn add(list: &mut TopicPartitionList, partition: &TopicPartition, next: i64, topic_id: Option<&str>) {
    let mut element = list.add_partition(&partition.topic, partition.partition);
    // `store_offset` would take the offset before.
    if let Err(error) = element.set_offset(Offset::Offset(next)) {
        tracing::error!(%partition, next, "Kafka: no offset: {error}");
    }
    let metadata = topic_ids::commit_metadata(topic_id);
    if !metadata.is_empty() {
        element.set_metadata(metadata);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: 0 }
    }

    #[test]
    fn positions_are_expected_to_grow_one_by_one() {
        let mut cursor = Cursor::default();
        assert_eq!(
            [7, 8, 12].map(|offset| cursor.advance(offset)),
            [Continuity::InOrder, Continuity::InOrder, Continuity::Gap(9)]
        );
        assert_eq!((cursor.advance(12), cursor.advance(0)), (Continuity::Back, Continuity::Back));
        assert_eq!(cursor.advance(13), Continuity::InOrder);
    }

    #[test]
    fn what_a_log_no_longer_has_is_counted_once() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.drained(5, 9), 0, "nothing was expected yet");
        cursor.next = Some(3);
        assert_eq!([cursor.drained(2, 3), cursor.drained(3, 3)], [0, 0]);
        assert_eq!([cursor.drained(10, 10), cursor.drained(10, 10)], [7, 0]);
        assert_eq!([cursor.drained(10, 12), cursor.drained(10, 12)], [0, 0], "markers of transactions");
        assert_eq!(cursor.drained(12, 12), 0, "deleted after we had passed them");
        assert_eq!([cursor.drained(12, 20), cursor.drained(20, 20)], [0, 8], "the first look was behind");
    }

    #[test]
    fn an_offset_of_an_assignment_that_the_runtime_has_not_heard_of_is_not_stored() {
        let mut partitions = Partitions::default();
        let stored = |partitions: &Partitions| partitions.storable(&[(partition(), 5)]).count();
        assert_eq!(stored(&partitions), 0, "not ours");
        partitions.assigned.insert(partition(), Cursor::default());
        partitions.announce(&[partition()]);
        partitions.announce(&[partition()]);
        partitions.announced(&[partition()]);
        assert_eq!(stored(&partitions), 0);
        partitions.announced(&[partition()]);
        assert_eq!(stored(&partitions), 1);
        let cursor = partitions.assigned.remove(&partition()).unwrap();
        partitions.leaving.insert(partition(), cursor);
        assert_eq!(stored(&partitions), 1, "while it is given away, what is done is committed");
    }
}

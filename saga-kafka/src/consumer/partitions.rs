//! Which partitions are ours, how far in their logs we are, and which of them are fetched.

use std::collections::{BTreeMap, HashSet};

use rdkafka::{Offset, TopicPartitionList};
use saga_core::record::TopicPartition;

use super::topic_ids;

/// The partitions that are assigned to this consumer.
#[derive(Default)]
pub(super) struct Partitions {
    pub(super) assigned: BTreeMap<TopicPartition, Cursor>,
    /// Being given away: what the runtime stores until it lets go is committed.
    pub(super) leaving: BTreeMap<TopicPartition, Cursor>,
    /// Paused by the runtime.
    pub(super) paused: HashSet<TopicPartition>,
    /// Everything is paused, because the runtime takes nothing.
    pub(super) held: bool,
    /// How many assignments of a partition the runtime has not heard of. What it stores until then is of an earlier one,
    /// which may have been of another log.
    unannounced: BTreeMap<TopicPartition, usize>,
}

/// How far we are in a partition's log.
#[derive(Default, Debug)]
pub(super) struct Cursor {
    /// The id of its topic: the offsets that we commit are of this one.
    pub(super) topic_id: Option<String>,
    /// Whether it is known where reading begins. Until then nothing is fetched.
    pub(super) begun: bool,
    /// Cursor begins here, whatever is committed: the log is another than before.
    pub(super) reset_to: Option<i64>,
    /// The offset that is expected next; none before it is known.
    pub(super) next: Option<i64>,
    /// Up to here there was nothing else that is handed over: markers of transactions, for one.
    pub(super) passed: i64,
    /// The same as of the last look: what one look says may be older than where the log begins now.
    pub(super) passing: i64,
}

/// What an offset says about its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    InOrder,
    /// Offsets from this one on are missing: compacted, those of transactions, or deleted.
    Gap(i64),
    /// Positions only go back in a log that is another than before.
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

    /// Everything that was fetched has been taken, the log begins at `start` and goes on at `next`: how many offsets that
    /// were expected are gone.
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
    /// Whether nothing of an assigned partition is fetched.
    pub(super) fn is_stopped(&self, partition: &TopicPartition) -> bool {
        self.held || self.paused.contains(partition) || !self.assigned.get(partition).is_some_and(|r| r.begun)
    }

    /// The runtime is going to be told that these are assigned.
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

    /// What may be stored of these offsets, for librdkafka: those of assignments that the runtime knows of.
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

/// An offset to be stored or committed, with the id of the topic it is of.
pub(super) fn add(list: &mut TopicPartitionList, partition: &TopicPartition, next: i64, topic_id: Option<&str>) {
    let mut element = list.add_partition(&partition.topic, partition.partition);
    // Not `store_offset`, which takes the offset before.
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

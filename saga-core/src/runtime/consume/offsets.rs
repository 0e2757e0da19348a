//! Which offsets may be committed: everything below the lowest record that is not done yet.

use std::collections::{HashMap, VecDeque};

use crate::record::TopicPartition;

/// Progress on the assigned partitions.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    partitions: HashMap<TopicPartition, Progress>,
    epochs: u64,
}

#[derive(Debug)]
struct Progress {
    /// Tells this assignment of the partition from an earlier one.
    epoch: u64,
    /// Records taken and not yet below the watermark, in order, with whether they are done.
    open: VecDeque<(i64, bool)>,
    /// The next offset to commit.
    watermark: Option<i64>,
    changed: bool,
}

impl Offsets {
    pub(crate) fn assign(&mut self, partition: TopicPartition) {
        self.epochs += 1;
        let progress = Progress { epoch: self.epochs, open: VecDeque::new(), watermark: None, changed: false };
        self.partitions.insert(partition, progress);
    }

    pub(crate) fn revoke(&mut self, partition: &TopicPartition) {
        self.partitions.remove(partition);
    }

    /// Notes a record. Returns the epoch of the assignment, or none when the partition is not assigned.
    pub(crate) fn take(&mut self, partition: &TopicPartition, offset: i64) -> Option<u64> {
        let progress = self.partitions.get_mut(partition)?;
        // A transport reassigns a partition whose positions go back. If one does not, the records in flight belong to another
        // log, and those that are not done hold the watermark, which is safe.
        if progress.open.back().is_some_and(|(last, _)| *last >= offset) {
            self.epochs += 1;
            progress.epoch = self.epochs;
            progress.open.retain(|(open, _)| *open < offset);
        }
        progress.open.push_back((offset, false));
        Some(progress.epoch)
    }

    /// The record is done. A record of an earlier assignment is ignored.
    pub(crate) fn done(&mut self, partition: &TopicPartition, epoch: u64, offset: i64) {
        let Some(progress) = self.partitions.get_mut(partition).filter(|p| p.epoch == epoch) else { return };
        if let Ok(at) = progress.open.binary_search_by_key(&offset, |(open, _)| *open) {
            progress.open[at].1 = true;
        }
        while let Some((offset, true)) = progress.open.front().copied() {
            progress.open.pop_front();
            progress.watermark = Some(offset + 1);
            progress.changed = true;
        }
    }

    pub(crate) fn is_current(&self, partition: &TopicPartition, epoch: u64) -> bool {
        self.partitions.get(partition).is_some_and(|p| p.epoch == epoch)
    }

    /// The watermarks that moved since the last call.
    pub(crate) fn committable(&mut self) -> Vec<(TopicPartition, i64)> {
        let moved = self.partitions.iter_mut().filter(|(_, p)| p.changed);
        moved
            .filter_map(|(partition, p)| {
                p.changed = false;
                p.watermark.map(|next| (partition.clone(), next))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition { topic: "order.events".into(), partition: 1 }
    }

    #[test]
    fn only_the_lowest_contiguous_done_record_moves_the_watermark() {
        let mut offsets = Offsets::default();
        offsets.assign(partition());
        let epoch = (10..14).map(|o| offsets.take(&partition(), o).unwrap()).last().unwrap();
        offsets.done(&partition(), epoch, 11);
        offsets.done(&partition(), epoch, 13);
        assert_eq!(offsets.committable(), []);
        offsets.done(&partition(), epoch, 10);
        assert_eq!(offsets.committable(), [(partition(), 12)]);
        assert_eq!(offsets.committable(), []);
        offsets.done(&partition(), epoch, 12);
        assert_eq!(offsets.committable(), [(partition(), 14)]);
    }

    #[test]
    fn gaps_in_a_compacted_partition_do_not_hold_the_watermark() {
        let mut offsets = Offsets::default();
        offsets.assign(partition());
        let epoch = [3, 9].map(|o| offsets.take(&partition(), o).unwrap())[0];
        offsets.done(&partition(), epoch, 3);
        offsets.done(&partition(), epoch, 9);
        assert_eq!(offsets.committable(), [(partition(), 10)]);
    }

    #[test]
    fn work_from_before_the_positions_went_back_does_nothing_for_what_is_read_since() {
        let mut offsets = Offsets::default();
        offsets.assign(partition());
        let old = (3..6).map(|o| offsets.take(&partition(), o).unwrap()).last().unwrap();
        let new = (0..6).map(|o| offsets.take(&partition(), o).unwrap()).last().unwrap();
        (3..6).for_each(|offset| offsets.done(&partition(), old, offset));
        (0..3).for_each(|offset| offsets.done(&partition(), new, offset));
        assert_eq!(offsets.committable(), [(partition(), 3)], "3 is another record now");
        (3..6).for_each(|offset| offsets.done(&partition(), new, offset));
        assert_eq!(offsets.committable(), [(partition(), 6)]);
    }

    #[test]
    fn work_of_an_earlier_assignment_cannot_move_the_watermark() {
        let mut offsets = Offsets::default();
        offsets.assign(partition());
        let old = offsets.take(&partition(), 5).unwrap();
        offsets.revoke(&partition());
        assert_eq!(offsets.take(&partition(), 6), None);
        offsets.assign(partition());
        offsets.take(&partition(), 5).unwrap();
        offsets.done(&partition(), old, 5);
        assert_eq!(offsets.committable(), []);
        assert!(!offsets.is_current(&partition(), old));
    }
}

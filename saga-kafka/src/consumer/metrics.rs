//! What a consumer measures of itself, readable from any task.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use saga_core::record::{Record, TopicPartition};

use super::{
    errors::ErrorKind,
    stats::{Position, Stats},
};

/// Figures of one consumer; clones read the same ones.
#[derive(Clone, Default, Debug)]
pub struct ConsumerMetrics(Arc<Figures>);

#[derive(Default, Debug)]
struct Figures {
    positions: Mutex<Vec<(TopicPartition, Position)>>,
    /// Ends of partitions that are paused: what the statistics know of them is as old as their last fetch.
    ends: Mutex<HashMap<TopicPartition, i64>>,
    /// Up to where records of a partition were handed over. What librdkafka knows of that counts markers, too.
    handed: Mutex<HashMap<TopicPartition, i64>>,
    /// By partition; those that are or were ours are all there, so that the first one is seen.
    lost: Counts,
    resets: Counts,
    unreadable: AtomicU64,
    group_errors: AtomicU64,
    other_errors: AtomicU64,
    rebalances: AtomicU64,
    stale_offsets: AtomicU64,
    fenced: AtomicU64,
}

impl ConsumerMetrics {
    /// How far each assigned partition is done: its stored offset, and the difference between that and its end. Up to a
    /// second old, five seconds for a partition that is paused. A partition of which nothing is known yet is left out.
    pub fn positions(&self) -> Vec<(TopicPartition, Position)> {
        self.0.positions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often partitions were assigned or revoked.
    pub fn rebalances(&self) -> u64 {
        self.0.rebalances.load(Relaxed)
    }

    /// Offsets that were to be stored for partitions that had gone already. Their events come again, to another member.
    pub fn stale_offsets(&self) -> u64 {
        self.0.stale_offsets.load(Relaxed)
    }

    /// How often another process with our instance id took our place, or the client failed for good and was replaced.
    pub fn fenced(&self) -> u64 {
        self.0.fenced.load(Relaxed)
    }

    /// Records that were deleted from the log before they were read, of each partition that this consumer has had.
    pub fn records_lost(&self) -> Vec<(TopicPartition, u64)> {
        counts(&self.0.lost)
    }

    /// How often a partition's log turned out to be another than before, and was read from its beginning.
    pub fn resets(&self) -> Vec<(TopicPartition, u64)> {
        counts(&self.0.resets)
    }

    /// Errors that the client reported, but for those of connections and topics: of records that cannot be read
    /// (`unreadable`), of the group (`group`), and `other`, which nobody thought of.
    pub fn errors(&self) -> [(&'static str, u64); 3] {
        let Figures { unreadable, group_errors, other_errors, .. } = &*self.0;
        [("unreadable", unreadable), ("group", group_errors), ("other", other_errors)]
            .map(|(kind, count)| (kind, count.load(Relaxed)))
    }

    pub(super) fn error(&self, kind: ErrorKind) {
        let count = match kind {
            ErrorKind::Unreadable => &self.0.unreadable,
            ErrorKind::Group => &self.0.group_errors,
            ErrorKind::Unknown => &self.0.other_errors,
            ErrorKind::Connection | ErrorKind::Topic | ErrorKind::Transient => return,
        };
        count.fetch_add(1, Relaxed);
    }

    pub(super) fn assigned(&self, partitions: &[TopicPartition]) {
        for partition in partitions {
            count(&self.0.lost, partition, 0);
            count(&self.0.resets, partition, 0);
        }
    }

    pub(super) fn lost(&self, partition: &TopicPartition, records: u64) {
        count(&self.0.lost, partition, records);
    }

    pub(super) fn partition_reset(&self, partition: &TopicPartition) {
        count(&self.0.resets, partition, 1);
    }

    pub(super) fn rebalanced(&self) {
        self.0.rebalances.fetch_add(1, Relaxed);
    }

    pub(super) fn stale(&self, count: u64) {
        self.0.stale_offsets.fetch_add(count, Relaxed);
    }

    pub(super) fn was_fenced(&self) {
        self.0.fenced.fetch_add(1, Relaxed);
    }

    pub(super) fn set_ends(&self, ends: HashMap<TopicPartition, i64>) {
        *self.0.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
    }

    pub(super) fn handed_over(&self, records: &[Record]) {
        let mut handed = self.0.handed.lock().unwrap_or_else(PoisonError::into_inner);
        for of_one in records.chunk_by(|a, b| a.partition == b.partition && a.topic == b.topic) {
            let Some(last) = of_one.last() else { continue };
            handed.insert(last.topic_partition(), last.offset + 1);
        }
    }

    pub(super) fn set_positions(&self, stats: &Stats, assigned: Vec<TopicPartition>) {
        let ends = self.0.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let mut handed = self.0.handed.lock().unwrap_or_else(PoisonError::into_inner);
        handed.retain(|partition, _| assigned.contains(partition));
        let positions = assigned.into_iter().filter_map(|assigned| {
            let position =
                stats.partition(&assigned)?.position(ends.get(&assigned).copied(), handed.get(&assigned).copied())?;
            Some((assigned, position))
        });
        *self.0.positions.lock().unwrap_or_else(PoisonError::into_inner) = positions.collect();
    }
}

type Counts = Mutex<BTreeMap<TopicPartition, u64>>;

fn count(counts: &Counts, partition: &TopicPartition, more: u64) {
    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(partition.clone()).or_default() += more;
}

fn counts(counts: &Counts) -> Vec<(TopicPartition, u64)> {
    counts.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(p, count)| (p.clone(), *count)).collect()
}

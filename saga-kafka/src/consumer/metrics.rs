//! The consumer's figures, readable from any task.

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
    /// Ends of paused partitions: the statistics know them as of their last fetch only.
    ends: Mutex<HashMap<TopicPartition, i64>>,
    /// The offset after the last record that was handed over, by partition. librdkafka's own position counts
    /// transaction markers too.
    handed: Mutex<HashMap<TopicPartition, i64>>,
    /// By partition; every partition that is or was assigned has an entry, so that a first increase is visible.
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
    /// The position and lag of each assigned partition: its stored offset, and the distance from there to its end. Up
    /// to a second old; five seconds for a paused partition. A partition without figures is left out.
    pub fn positions(&self) -> Vec<(TopicPartition, Position)> {
        self.0.positions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often partitions were assigned or revoked.
    pub fn rebalances(&self) -> u64 {
        self.0.rebalances.load(Relaxed)
    }

    /// Offsets that came for partitions that were revoked already. Another member gets their events again.
    pub fn stale_offsets(&self) -> u64 {
        self.0.stale_offsets.load(Relaxed)
    }

    /// How often another process with the same instance id took over, or the client failed for good and was replaced.
    pub fn fenced(&self) -> u64 {
        self.0.fenced.load(Relaxed)
    }

    /// Records that retention deleted before they were read, for each partition that this consumer has had.
    pub fn records_lost(&self) -> Vec<(TopicPartition, u64)> {
        counts(&self.0.lost)
    }

    /// How often a partition's log was replaced by another and read from its beginning.
    pub fn resets(&self) -> Vec<(TopicPartition, u64)> {
        counts(&self.0.resets)
    }

    /// Errors that the client reported, by kind: `unreadable` (records), `group`, and `other`. Connections and topics
    /// are not counted.
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

//! The producer's queue, divided into a quota for each partition: one without a leader must not fill it and stop all
//! others.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use saga_core::record::OutRecord;

use crate::partitioner::partition_of;

/// A partition without any outcome for this long counts as stalled and takes no more than so many records.
const STALLED: Duration = Duration::from_millis(500);
const WHEN_STALLED: usize = 100;

/// The limits for all partitions together, divided among the known ones.
pub(super) struct Quotas {
    began: Instant,
    max_records: usize,
    max_bytes: usize,
    topics: HashMap<String, Topic>,
}

#[derive(Default)]
struct Topic {
    /// Number of partitions; none before it is known, or while the topic is missing.
    partitions: Option<i32>,
    by_partition: HashMap<i32, Arc<Quota>>,
    /// Records whose partition is unknown: without a key, or before the number of partitions is known.
    others: Arc<Quota>,
}

/// One partition's records and bytes in flight.
#[derive(Default)]
pub(super) struct Quota {
    records: AtomicUsize,
    bytes: AtomicUsize,
    /// Time of its last outcome, or of its first record, in milliseconds since [`Quotas::began`].
    moved: AtomicU64,
}

/// A record's part of its partition's quota, released when this is dropped.
pub(super) struct Reservation {
    quota: Arc<Quota>,
    bytes: usize,
    began: Instant,
}

impl Quota {
    fn moved(&self, began: Instant) {
        self.moved.store(milliseconds(began), Relaxed);
    }

    fn is_stalled(&self, began: Instant) -> bool {
        u128::from(milliseconds(began).saturating_sub(self.moved.load(Relaxed))) > STALLED.as_millis()
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Quotas {
    pub(super) fn new(max_records: usize, max_bytes: usize) -> Self {
        Self { began: Instant::now(), max_records, max_bytes, topics: HashMap::new() }
    }

    /// The record's quota.
    pub(super) fn of(&mut self, record: &OutRecord) -> Arc<Quota> {
        if !self.topics.contains_key(&*record.topic) {
            self.topics.insert(record.topic.to_string(), Topic::default());
        }
        let Some(topic) = self.topics.get_mut(&*record.topic) else { return Arc::default() };
        match (&record.key, topic.partitions) {
            (Some(key), Some(partitions)) => {
                topic.by_partition.entry(partition_of(key, partitions)).or_default().clone()
            }
            _ => topic.others.clone(),
        }
    }

    /// Reserves room for the record; none when the quota is full. An empty quota takes a record of any size.
    pub(super) fn take(&self, quota: Arc<Quota>, record: &OutRecord) -> Option<Reservation> {
        // Counted as librdkafka counts.
        let bytes = record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len);
        let known: usize =
            self.topics.values().map(|topic| topic.partitions.map_or(1, |n| usize::try_from(n).unwrap_or(1))).sum();
        let known = known.max(1);
        let (records, held) = (quota.records.load(Acquire), quota.bytes.load(Acquire));
        if records > 0 && (records >= self.max_records / known || held + bytes > self.max_bytes / known) {
            return None;
        }
        if records == 0 {
            quota.moved(self.began);
        } else if records >= WHEN_STALLED && quota.is_stalled(self.began) {
            return None;
        }
        quota.records.fetch_add(1, AcqRel);
        quota.bytes.fetch_add(bytes, AcqRel);
        Some(Reservation { quota, bytes, began: self.began })
    }

    /// Topics whose number of partitions is not known yet.
    pub(super) fn unknown(&self) -> Vec<String> {
        self.topics.iter().filter(|(_, topic)| topic.partitions.is_none()).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.topics.keys().cloned().collect()
    }

    pub(super) fn has_partitions(&mut self, topic: &str, partitions: i32) {
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.partitions = Some(partitions);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.quota.moved(self.began);
        self.quota.records.fetch_sub(1, AcqRel);
        self.quota.bytes.fetch_sub(self.bytes, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(topic: &'static str, key: &str, size: usize) -> OutRecord {
        OutRecord { topic: topic.into(), key: Some(key.into()), value: Some(vec![0; size]), headers: vec![] }
    }

    fn take(quotas: &mut Quotas, record: &OutRecord) -> Option<Reservation> {
        let quota = quotas.of(record);
        quotas.take(quota, record)
    }

    #[test]
    fn a_full_partition_leaves_the_others_their_room() {
        let mut quotas = Quotas::new(12, 1 << 20);
        drop(quotas.of(&record("t", "a", 1)));
        quotas.has_partitions("t", 4);
        let other = ["b", "c", "d", "e"].into_iter().find(|k| partition_of(k.as_bytes(), 4) != partition_of(b"a", 4));
        let taken: Vec<_> = (0..9).filter_map(|_| take(&mut quotas, &record("t", "a", 1))).collect();
        assert_eq!(taken.len(), 3);
        let others: Vec<_> = (0..9).filter_map(|_| take(&mut quotas, &record("t", other.unwrap(), 1))).collect();
        assert_eq!(others.len(), 3);
        drop(taken);
        assert!(take(&mut quotas, &record("t", "a", 1)).is_some(), "what is acknowledged makes room");
    }

    #[test]
    fn of_a_partition_of_which_nothing_is_decided_so_many_are_enough() {
        let mut quotas = Quotas::new(100_000, 1 << 20);
        quotas.began = Instant::now() - Duration::from_secs(10);
        let taken: Vec<_> = (0..300).filter_map(|_| take(&mut quotas, &record("t", "a", 1))).collect();
        assert_eq!(taken.len(), 300, "while it is young, its quota is what counts");
        quotas.of(&record("t", "a", 1)).moved.store(0, Relaxed);
        assert!(take(&mut quotas, &record("t", "a", 1)).is_none());
        drop(taken.into_iter().next());
        assert!(take(&mut quotas, &record("t", "a", 1)).is_some(), "one was decided");
    }

    #[test]
    fn bytes_are_shared_too_and_an_empty_share_takes_what_comes() {
        let mut quotas = Quotas::new(100, 1_000);
        drop((quotas.of(&record("t", "a", 1)), quotas.of(&record("u", "a", 1))));
        assert_eq!(quotas.unknown().len(), 2);
        quotas.has_partitions("t", 1);
        quotas.has_partitions("u", 1);
        assert!(quotas.unknown().is_empty());
        let large = take(&mut quotas, &record("t", "a", 5_000));
        assert!(large.is_some() && take(&mut quotas, &record("t", "a", 1)).is_none());
        assert!(take(&mut quotas, &record("u", "a", 400)).is_some());
        drop(large);
        let first = take(&mut quotas, &record("t", "a", 300));
        assert!(first.is_some() && take(&mut quotas, &record("t", "a", 300)).is_none());
    }
}

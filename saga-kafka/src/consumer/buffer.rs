//! The bounded buffer between the poll thread and the runtime: signals and records.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use saga_core::{
    record::{Record, TopicPartition},
    transport::{RevokeGuard, Signal},
};
use tokio::sync::Notify;

/// The poll thread stops taking records when so many, or so many bytes of them, wait for the runtime.
const MAX_RECORDS: usize = 4_000;
const MAX_BYTES: usize = 16 << 20;

#[derive(Default)]
pub(super) struct Buffer {
    inner: Mutex<Inner>,
    /// Wakes the runtime: there is something to take.
    filled: Notify,
    /// Wakes the poll thread: something was taken, or the consumer closes.
    taken: Condvar,
}

#[derive(Default)]
struct Inner {
    /// Everything but records, which it overtakes. A partition's records are dropped before its `Revoked` is queued
    /// here, and queued after its `Assigned`.
    control: VecDeque<Signal>,
    records: VecDeque<Vec<Record>>,
    count: usize,
    bytes: usize,
    closed: bool,
}

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, signal: Signal) {
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        // A runtime that was busy needs the latest state of health only.
        if matches!(signal, Signal::Waiting(_) | Signal::Ready) {
            inner.control.retain(|signal| !matches!(signal, Signal::Waiting(_) | Signal::Ready));
        }
        inner.control.push_back(signal);
        drop(inner);
        self.filled.notify_one();
    }

    pub(super) fn push_records(&self, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        inner.count += records.len();
        inner.bytes += records.iter().map(size).sum::<usize>();
        inner.records.push_back(records);
        drop(inner);
        self.filled.notify_one();
    }

    /// Drops these partitions' records and queues `Revoked`. None of them is handed over after this.
    pub(super) fn revoke(&self, partitions: Vec<TopicPartition>, guard: RevokeGuard) {
        let gone: HashSet<(&str, i32)> = partitions.iter().map(|p| (&*p.topic, p.partition)).collect();
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        for chunk in &mut inner.records {
            chunk.retain(|record| !gone.contains(&(&*record.topic, record.partition)));
        }
        inner.records.retain(|chunk| !chunk.is_empty());
        inner.count = inner.records.iter().map(Vec::len).sum();
        inner.bytes = inner.records.iter().flatten().map(size).sum();
        inner.control.push_back(Signal::Revoked(partitions, guard));
        drop(inner);
        self.filled.notify_one();
    }

    /// Refuses further signals, and drops the guards that were not handed over.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        *inner = Inner { closed: true, ..Inner::default() };
        drop(inner);
        self.taken.notify_all();
    }

    pub(super) fn is_full(&self) -> bool {
        let inner = self.lock();
        inner.count >= MAX_RECORDS || inner.bytes >= MAX_BYTES
    }

    /// Whether enough room is free to resume fetching.
    pub(super) fn is_drained(&self) -> bool {
        let inner = self.lock();
        inner.count <= MAX_RECORDS / 2 && inner.bytes <= MAX_BYTES / 2
    }

    pub(super) fn count(&self) -> usize {
        self.lock().count
    }

    /// Waits until there is room or the buffer is closed. Returns false when it is still full after this time.
    pub(super) fn wait_for_room(&self, timeout: Duration) -> bool {
        let full = |inner: &mut Inner| !inner.closed && (inner.count >= MAX_RECORDS || inner.bytes >= MAX_BYTES);
        let waited = self.taken.wait_timeout_while(self.lock(), timeout, full).unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }

    /// Waits until the buffer is closed. Returns false when it is still open after this time.
    pub(super) fn wait_for_close(&self, timeout: Duration) -> bool {
        let waited = self
            .taken
            .wait_timeout_while(self.lock(), timeout, |inner| !inner.closed)
            .unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }

    pub(super) async fn next(&self, room: usize) -> Signal {
        loop {
            if let Some(signal) = self.take(room) {
                return signal;
            }
            // A notification between the two is kept. Nothing is taken before this point, so the future may be
            // cancelled.
            self.filled.notified().await;
        }
    }

    fn take(&self, room: usize) -> Option<Signal> {
        let mut inner = self.lock();
        if let Some(signal) = inner.control.pop_front() {
            return Some(signal);
        }
        if room == 0 {
            return None;
        }
        let mut records = inner.records.pop_front()?;
        if records.len() > room {
            let rest = records.split_off(room);
            inner.records.push_front(rest);
        }
        while let Some(next) = inner.records.front_mut() {
            let free = room - records.len();
            if free == 0 {
                break;
            }
            if next.len() <= free {
                records.append(next);
                inner.records.pop_front();
            } else {
                records.extend(next.drain(..free));
            }
        }
        inner.count -= records.len();
        inner.bytes -= records.iter().map(size).sum::<usize>();
        drop(inner);
        self.taken.notify_all();
        Some(Signal::Records(records))
    }
}

/// Approximate size of a record in memory.
pub(super) fn size(record: &Record) -> usize {
    let headers: usize =
        record.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Vec::len) + size_of_val(h)).sum();
    size_of_val(record) + record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len) + headers
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn record(partition: i32, offset: i64) -> Record {
        Record { topic: "t".into(), partition, offset, key: None, value: None, headers: Vec::new() }
    }

    fn partition(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    fn offsets(signal: Option<Signal>) -> Vec<i64> {
        match signal {
            Some(Signal::Records(records)) => records.iter().map(|r| r.offset).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn never_more_records_than_there_is_room_for_and_in_order() {
        let buffer = Buffer::default();
        buffer.push_records((0..3).map(|o| record(0, o)).collect());
        buffer.push_records((3..6).map(|o| record(0, o)).collect());
        assert!(buffer.take(0).is_none());
        assert_eq!(offsets(buffer.take(2)), [0, 1]);
        assert_eq!(offsets(buffer.take(3)), [2, 3, 4]);
        assert_eq!(offsets(buffer.take(9)), [5]);
        assert!(buffer.take(9).is_none());
        assert_eq!((buffer.count(), buffer.lock().bytes), (0, 0));
    }

    #[test]
    fn signals_are_taken_before_records_also_without_room() {
        let buffer = Buffer::default();
        buffer.push_records(vec![record(0, 0)]);
        buffer.push(Signal::Assigned(vec![partition(1)]));
        assert!(matches!(buffer.take(0), Some(Signal::Assigned(_))));
        assert_eq!(offsets(buffer.take(1)), [0]);
    }

    #[test]
    fn records_of_a_revoked_partition_are_gone_before_the_signal_is_seen() {
        let buffer = Buffer::default();
        buffer.push_records(vec![record(0, 0), record(1, 7), record(0, 1)]);
        buffer.revoke(vec![partition(0)], RevokeGuard::unguarded());
        assert!(matches!(buffer.take(0), Some(Signal::Revoked(..))));
        assert_eq!(offsets(buffer.take(9)), [7]);
        assert_eq!((buffer.count(), buffer.lock().bytes), (0, 0));
    }

    #[test]
    fn only_the_latest_state_of_health_waits() {
        let buffer = Buffer::default();
        buffer.push(Signal::Waiting("a".into()));
        buffer.push(Signal::Ready);
        buffer.push(Signal::Waiting("b".into()));
        assert!(matches!(buffer.take(0), Some(Signal::Waiting(why)) if why == "b"));
        assert!(buffer.take(0).is_none());
    }

    #[test]
    fn closing_drops_the_guards_that_nobody_took() {
        let buffer = Buffer::default();
        let (guard, dropped) = RevokeGuard::new();
        buffer.revoke(vec![partition(0)], guard);
        buffer.close();
        assert_eq!(dropped.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
        assert!(buffer.next(1).now_or_never().is_none());
    }
}

//! The part of librdkafka's statistics that we read: lag, connections, the group's state.
//!
//! Source: librdkafka 2.12.1, STATISTICS.md.

use std::collections::HashMap;

use saga_core::record::TopicPartition;
use serde::Deserialize;

/// How far a partition is processed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Records before this offset are done.
    pub done: i64,
    /// Number of records that are not done.
    pub lag: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Stats {
    pub(super) brokers: HashMap<String, Broker>,
    pub(super) topics: HashMap<String, Topic>,
    pub(super) cgrp: Group,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Broker {
    pub(super) nodename: String,
    pub(super) nodeid: i64,
    pub(super) source: String,
    pub(super) state: String,
    /// Requests that wait for their response.
    pub(super) waitresp_cnt: i64,
    /// Microseconds since the last byte came, -1 when none did.
    pub(super) rxidle: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Topic {
    pub(super) partitions: HashMap<String, Partition>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Partition {
    pub(super) partition: i32,
    pub(super) leader: i64,
    pub(super) fetch_state: String,
    /// Records fetched and not taken.
    pub(super) fetchq_cnt: i64,
    pub(super) next_offset: i64,
    pub(super) stored_offset: i64,
    pub(super) committed_offset: i64,
    pub(super) lo_offset: i64,
    pub(super) hi_offset: i64,
    pub(super) ls_offset: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Group {
    pub(super) state: String,
    /// Milliseconds since the state changed.
    pub(super) stateage: i64,
    pub(super) join_state: String,
}

/// A log of which all fetched records were taken. Records before its start that were not handed over are lost.
pub(super) struct Drained {
    pub(super) start: i64,
    /// The offset that is fetched next.
    pub(super) next: i64,
}

impl Stats {
    /// Those of these partitions of which all fetched records were taken.
    pub(super) fn drained(&self, partitions: &[TopicPartition]) -> HashMap<TopicPartition, Drained> {
        let drained = |partition: &TopicPartition| {
            let found = self.partition(partition)?;
            let is_drained = found.fetchq_cnt == 0 && found.lo_offset >= 0 && found.next_offset >= found.lo_offset;
            is_drained.then(|| (partition.clone(), Drained { start: found.lo_offset, next: found.next_offset }))
        };
        partitions.iter().filter_map(drained).collect()
    }

    pub(super) fn partition(&self, partition: &TopicPartition) -> Option<&Partition> {
        let partitions = &self.topics.get(&*partition.topic)?.partitions;
        partitions.values().find(|found| found.partition == partition.partition)
    }
}

impl Broker {
    pub(super) fn is_up(&self) -> bool {
        self.state == "UP"
    }

    /// Whether this is librdkafka's connection to the current coordinator, which has no address of its own.
    pub(super) fn is_logical(&self) -> bool {
        self.source == "logical"
    }
}

impl Partition {
    /// Whether the partition is assigned to this consumer.
    pub(super) fn fetching(&self) -> bool {
        !matches!(self.fetch_state.as_str(), "" | "none" | "stopping" | "stopped")
    }

    /// The offset at which an open transaction blocks the partition, and the number of records behind it. None while
    /// there are records before it to fetch.
    pub(super) fn held_back(&self) -> Option<(i64, i64)> {
        let is_there = self.ls_offset >= 0 && self.next_offset >= self.ls_offset && self.hi_offset > self.ls_offset;
        is_there.then(|| (self.ls_offset, self.hi_offset - self.ls_offset))
    }

    /// The position and lag up to the greater of this end and the one that was fetched last. Records before `handed`
    /// were handed over. None when nothing is known.
    pub(super) fn position(&self, end: Option<i64>, handed: Option<i64>) -> Option<Position> {
        // The log's end, past what an open transaction blocks.
        let end = self.ls_offset.max(self.hi_offset).max(end.unwrap_or(-1));
        let done =
            [self.stored_offset, self.committed_offset, self.lo_offset].into_iter().find(|offset| *offset >= 0)?;
        // Only transaction markers follow the last record, and they are not delivered.
        let all_done = self.fetchq_cnt == 0 && self.next_offset >= end && handed.is_none_or(|handed| handed <= done);
        let lag = if all_done { 0 } else { (end - done).max(0) };
        (end >= 0).then_some(Position { done, lag })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(stored: i64, committed: i64) -> Partition {
        Partition {
            stored_offset: stored,
            committed_offset: committed,
            lo_offset: 2,
            hi_offset: 10,
            ls_offset: 10,
            ..Partition::default()
        }
    }

    fn lag(partition: &Partition, end: Option<i64>) -> Option<i64> {
        partition.position(end, Some(9)).map(|position| position.lag)
    }

    #[test]
    fn lag_counts_from_what_is_done_or_else_committed_or_else_there() {
        assert_eq!(lag(&partition(7, 5), None), Some(3));
        assert_eq!(lag(&partition(7, 5), Some(20)), Some(13));
        assert_eq!(lag(&partition(-1001, 5), None), Some(5));
        assert_eq!(lag(&partition(-1001, -1001), None), Some(8));
        assert_eq!(lag(&Partition { ls_offset: -1, hi_offset: -1001, ..partition(-1, -1) }, None), None);
    }

    #[test]
    fn a_marker_of_a_transaction_is_no_lag() {
        let behind_a_marker = || Partition { next_offset: 10, ..partition(9, 9) };
        assert_eq!(behind_a_marker().position(None, Some(9)), Some(Position { done: 9, lag: 0 }));
        assert_eq!(lag(&behind_a_marker(), Some(11)), Some(2), "more has come meanwhile");
        assert_eq!(lag(&Partition { fetchq_cnt: 1, ..behind_a_marker() }, None), Some(1), "fetched and not taken");
        assert_eq!(lag(&Partition { next_offset: 10, ..partition(8, 8) }, None), Some(2), "taken and not done");
        let none_ever = Partition { next_offset: 10, ..partition(-1001, -1001) };
        assert_eq!(none_ever.position(None, None), Some(Position { done: 2, lag: 0 }));
    }

    #[test]
    fn what_an_open_transaction_holds_back_is_lag() {
        let held_back = Partition { hi_offset: 15, next_offset: 10, ..partition(9, 9) };
        assert_eq!((lag(&held_back, None), held_back.held_back()), (Some(6), Some((10, 5))));
        let behind = Partition { next_offset: 8, ..held_back };
        assert_eq!(behind.held_back(), None, "there is something to fetch before it");
    }

    #[test]
    fn statistics_without_the_fields_we_read_are_no_error() {
        let stats: Stats = serde_json::from_str(r#"{"brokers": {"a:1/1": {"state": "UP", "new": [1]}}}"#).unwrap();
        assert!(stats.brokers["a:1/1"].is_up());
    }
}

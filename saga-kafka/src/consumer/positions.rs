//! Following the logs of the assigned partitions: start positions, records deleted unread, logs that were replaced.
//!
//! The same offsets may stand for other records: a topic can be deleted and created again, and a log can lose its end.
//! So each commit carries its topic's id, and offsets that go back are noticed.

use std::{
    collections::BTreeSet,
    ffi::CString,
    mem,
    sync::{PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use rdkafka::{Offset, TopicPartitionList, bindings as ffi, consumer::Consumer};
use saga_core::{
    record::{Record, TopicPartition},
    transport::Signal,
};

use super::{
    commit,
    context::{Client, pause},
    partitions::{self, Continuity, Cursor},
    poll::Thread,
    topic_ids::{self, Start},
};

/// Time limit of one question to the brokers.
const REQUEST: Duration = Duration::from_secs(1);

impl Thread {
    /// Starts the partitions that were assigned, once their start positions are known.
    ///
    /// # Errors
    /// When some have to wait, because the broker does not answer or does not know the topic; with the reason.
    pub(super) fn begin(&self, client: &Client) -> Result<(), String> {
        let state = self.shared.state();
        let waiting: Vec<_> =
            state.partitions.assigned.iter().filter(|(_, r)| !r.begun).map(|(p, r)| (p.clone(), r.reset_to)).collect();
        drop(state);
        if waiting.is_empty() {
            return Ok(());
        }
        let partitions: Vec<TopicPartition> = waiting.iter().map(|(partition, _)| partition.clone()).collect();
        let topics: BTreeSet<&str> = partitions.iter().map(|p| &*p.topic).collect();
        let asked = topic_ids::topic_ids(client, &topics, REQUEST)
            .and_then(|ids| Ok((ids, topic_ids::committed(client, &partitions, REQUEST)?)));
        let (ids, committed) = asked?;
        let mut left = None;
        let mut begun = Vec::with_capacity(waiting.len());
        for (partition, reset_to) in waiting {
            let Some(id) = ids.get(&*partition.topic) else {
                left = Some(format!("the broker does not know topic {}", partition.topic));
                continue;
            };
            let committed = committed.get(&partition);
            let start = reset_to.map_or_else(|| topic_ids::start(committed, id.as_deref()), Start::Reset);
            let next = match start {
                Start::Continue => committed.map(|committed| committed.next),
                Start::Reset(at) => {
                    if let Err(why) = begin_at(client, &partition, at, id.as_deref()) {
                        left = Some(format!("{partition} cannot begin anew: {why}"));
                        continue;
                    }
                    if reset_to.is_none() {
                        self.report_reset(&partition, "its topic was deleted and made anew since its last commit");
                    }
                    Some(at)
                }
            };
            begun.push((partition, Cursor { topic_id: id.clone(), begun: true, next, ..Cursor::default() }));
        }
        self.resume(client, begun);
        left.map_or(Ok(()), Err)
    }

    fn resume(&self, client: &Client, begun: Vec<(TopicPartition, Cursor)>) {
        let mut state = self.shared.state();
        let partitions: Vec<TopicPartition> = begun.iter().map(|(partition, _)| partition.clone()).collect();
        state.partitions.assigned.extend(begun);
        let running: Vec<_> = partitions.into_iter().filter(|p| !state.partitions.is_stopped(p)).collect();
        pause(client, &running, false);
    }

    /// Hands over the records whose logs are unchanged.
    pub(super) fn hand_over(&self, client: &Client, mut batch: Vec<Record>) {
        let mut state = self.shared.state();
        let (mut back, mut lost) = (Vec::new(), Vec::new());
        for of_one in batch.chunk_by(|a, b| a.partition == b.partition && a.topic == b.topic) {
            let Some(partition) = of_one.first().map(Record::topic_partition) else { continue };
            let Some(cursor) = state.partitions.assigned.get_mut(&partition).filter(|cursor| cursor.begun) else {
                continue;
            };
            for record in of_one {
                match cursor.advance(record.offset) {
                    Continuity::InOrder => {}
                    Continuity::Gap(next) => {
                        let deleted = log_start(client, &partition).unwrap_or_default().min(record.offset) - next;
                        lost.push((partition.clone(), u64::try_from(deleted).unwrap_or_default()));
                    }
                    Continuity::Back => {
                        cursor.begun = false;
                        back.push((partition.clone(), record.offset));
                        break;
                    }
                }
            }
        }
        // The callbacks ran on this thread, between two records of the batch: records of revoked partitions are
        // dropped.
        if client.context().revoked.swap(false, Relaxed) || !back.is_empty() {
            batch.retain(|r| state.partitions.assigned.get(&r.topic_partition()).is_some_and(|cursor| cursor.begun));
        }
        drop(state);
        lost.extend(self.emptied());
        lost.iter().for_each(|(partition, records)| self.report_lost(partition, *records));
        self.shared.metrics.handed_over(&batch);
        self.shared.buffer.push_records(batch);
        if !back.is_empty() {
            self.reset(client, back, "its positions went back: its log lost its end, or its topic was made anew");
        }
    }

    /// Deleted records of logs in which nothing is left to read.
    fn emptied(&self) -> Vec<(TopicPartition, u64)> {
        let logs = mem::take(&mut *self.shared.drained.lock().unwrap_or_else(PoisonError::into_inner));
        let mut state = self.shared.state();
        let lost = |(partition, log): (TopicPartition, super::stats::Drained)| {
            if state.partitions.is_stopped(&partition) {
                return None;
            }
            let lost = state.partitions.assigned.get_mut(&partition)?.drained(log.start, log.next);
            Some((partition, lost))
        };
        logs.into_iter().filter_map(lost).collect()
    }

    /// Compares the ids of the topics that are read with the current ones.
    pub(super) fn check_topics(&self, client: &Client) {
        let state = self.shared.state();
        let known: Vec<(TopicPartition, String)> = state
            .partitions
            .assigned
            .iter()
            .filter(|(_, cursor)| cursor.begun)
            .filter_map(|(partition, cursor)| Some((partition.clone(), cursor.topic_id.clone()?)))
            .collect();
        drop(state);
        let topics: BTreeSet<&str> = known.iter().map(|(partition, _)| &*partition.topic).collect();
        if topics.is_empty() {
            return;
        }
        let Ok(now) = topic_ids::topic_ids(client, &topics, REQUEST) else { return };
        let is_another = |(partition, then): &(TopicPartition, String)| {
            now.get(&*partition.topic).and_then(Option::as_ref).is_some_and(|now| now != then)
        };
        let reset: Vec<_> = known.iter().filter(|known| is_another(known)).map(|(p, _)| (p.clone(), 0)).collect();
        if !reset.is_empty() {
            self.reset(client, reset, "its topic was deleted and made anew while it was read");
        }
    }

    /// Reads these partitions from the given offsets. The runtime sees them revoked and assigned, and drops its events
    /// of the old log.
    fn reset(&self, client: &Client, at: Vec<(TopicPartition, i64)>, why: &str) {
        let partitions: Vec<TopicPartition> = at.iter().map(|(partition, _)| partition.clone()).collect();
        partitions.iter().for_each(|partition| self.report_reset(partition, why));
        let mut state = self.shared.state();
        for (partition, at) in &at {
            state.partitions.paused.remove(partition);
            state.partitions.assigned.insert(partition.clone(), Cursor { reset_to: Some(*at), ..Cursor::default() });
        }
        // Offsets that the runtime stores from here on belong to the old log.
        state.partitions.announce(&partitions);
        pause(client, &partitions, true);
        drop(state);
        self.shared.let_go_of(partitions.clone());
        self.shared.buffer.push(Signal::Assigned(partitions));
    }

    fn report_reset(&self, partition: &TopicPartition, why: &str) {
        self.shared.metrics.partition_reset(partition);
        tracing::warn!(%partition, "Kafka: the log is read from its beginning: {why}; what was not read of the old one is gone");
    }

    fn report_lost(&self, partition: &TopicPartition, records: u64) {
        if records == 0 {
            return;
        }
        self.shared.metrics.lost(partition, records);
        tracing::warn!(%partition, records, "Kafka: records were deleted before they were read: the topic keeps them for too short a time");
    }
}

/// Commits the start position, because later commits must be greater than the last, and seeks to it.
fn begin_at(client: &Client, partition: &TopicPartition, at: i64, topic_id: Option<&str>) -> Result<(), String> {
    let mut list = TopicPartitionList::with_capacity(1);
    partitions::add(&mut list, partition, at, topic_id);
    // Stored first, so that an offset of the old log is not committed after this.
    client.store_offsets(&list).map_err(|error| error.to_string())?;
    commit::explicit(client, &list, REQUEST).map_err(|code| code.to_string())?;
    let seek = client.seek(&partition.topic, partition.partition, Offset::Offset(at), REQUEST);
    seek.map_err(|error| error.to_string())
}

/// The start of the partition's log at its last fetch.
#[allow(unsafe_code, reason = "rust-rdkafka asks the broker each time")]
fn log_start(client: &Client, partition: &TopicPartition) -> Option<i64> {
    let topic = CString::new(partition.topic.as_bytes()).ok()?;
    let (mut start, mut end) = (-1, -1);
    // SAFETY: the client is alive while it is borrowed; the name and the two numbers are ours.
    let error = unsafe {
        ffi::rd_kafka_get_watermark_offsets(
            client.client().native_ptr(),
            topic.as_ptr(),
            partition.partition,
            &raw mut start,
            &raw mut end,
        )
    };
    (error == rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && start >= 0).then_some(start)
}

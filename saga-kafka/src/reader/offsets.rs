//! Offsets to read: the partitions of a topic, and the start and end of each.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError as NativeError,
    types::RDKafkaErrorCode as Code,
};
use saga_core::record::TopicPartition;

use super::{ReadError, context::Context};

/// Time limit of one question to the brokers.
const REQUEST: Duration = Duration::from_secs(5);

/// Part of a partition as it is now; its next record will have the offset `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OffsetRange {
    pub(super) partition: TopicPartition,
    pub(super) start: i64,
    pub(super) end: i64,
}

/// Asks the broker for offsets.
pub(super) struct Offsets<'a> {
    pub(super) client: &'a BaseConsumer<Context>,
    pub(super) bootstrap: &'a str,
}

impl Offsets<'_> {
    /// Number of partitions of the topic; none when there is no such topic. The question creates nothing.
    pub(super) fn partitions(&self, topic: &str, patience: Option<Duration>) -> Result<Option<i32>, ReadError> {
        let patience = patience.unwrap_or(REQUEST);
        let metadata = self.client.fetch_metadata(Some(topic), patience).map_err(|error| self.unreachable(&error))?;
        let Some(found) = metadata.topics().first() else { return Ok(None) };
        match found.error().map(Code::from) {
            None => Ok(Some(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX))),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
            Some(Code::TopicAuthorizationFailed) => Err(ReadError::NotAllowed { topic: topic.to_owned() }),
            Some(code) => Err(ReadError::Refused { topic: topic.to_owned(), reason: code.to_string() }),
        }
    }

    /// What these partitions hold now, from the beginning or from a time on.
    pub(super) fn ranges(
        &self,
        partitions: &[TopicPartition],
        since: Option<Timestamp>,
    ) -> Result<Vec<OffsetRange>, ReadError> {
        // The ends come first: later records are past them.
        let ends = self.offsets(partitions, Offset::End)?;
        let mut starts = self.offsets(partitions, Offset::Beginning)?;
        if let Some(since) = since {
            let first = self.offsets(partitions, Offset::Offset(since.as_millisecond().max(0)))?;
            // Nothing was written since, or the broker (the embedded one) knows no times: then it finds no record for
            // any time.
            let silent = |partition: &&TopicPartition| {
                !first.contains_key(*partition) && starts.get(*partition) < ends.get(*partition)
            };
            let silent: Vec<TopicPartition> = partitions.iter().filter(silent).cloned().collect();
            let known = if silent.is_empty() { BTreeMap::new() } else { self.offsets(&silent, Offset::Offset(0))? };
            for partition in partitions {
                if let Some(first) = first.get(partition) {
                    starts.insert(partition.clone(), *first);
                } else if known.contains_key(partition)
                    && let Some(end) = ends.get(partition)
                {
                    starts.insert(partition.clone(), *end);
                }
            }
        }
        let range = |partition: &TopicPartition| {
            let end = ends.get(partition).copied().unwrap_or_default();
            OffsetRange { partition: partition.clone(), start: starts.get(partition).copied().unwrap_or(end), end }
        };
        Ok(partitions.iter().map(range).collect())
    }

    /// The offset of each partition at its beginning, its end, or a time (an offset stands for milliseconds).
    /// Partitions without a record since that time are missing.
    fn offsets(&self, partitions: &[TopicPartition], at: Offset) -> Result<BTreeMap<TopicPartition, i64>, ReadError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for TopicPartition { topic, partition } in partitions {
            list.add_partition_offset(topic, *partition, at).map_err(|error| self.unreachable(&error))?;
        }
        let found = self.client.offsets_for_times(list, REQUEST).map_err(|error| self.unreachable(&error))?;
        let mut offsets = BTreeMap::new();
        for (partition, element) in
            partitions.iter().map(|partition| (partition, found.find_partition(&partition.topic, partition.partition)))
        {
            let Some(element) = element else { continue };
            element.error().map_err(|error| match error.rdkafka_error_code() {
                Some(Code::TopicAuthorizationFailed) => ReadError::NotAllowed { topic: partition.topic.to_string() },
                _ => ReadError::Refused { topic: partition.to_string(), reason: error.to_string() },
            })?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(partition.clone(), offset);
            }
        }
        Ok(offsets)
    }

    pub(super) fn unreachable(&self, error: &NativeError) -> ReadError {
        // Runs the callbacks, which know the reason. No record is lost: records have queues of their own.
        let _ = self.client.poll(Duration::ZERO);
        let code = || error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
        let reason = self.client.context().trouble().unwrap_or_else(code);
        ReadError::Unreachable { bootstrap: self.bootstrap.to_owned(), reason }
    }
}

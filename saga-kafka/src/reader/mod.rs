//! Reading topics without a group: nothing is committed, nothing created.

mod context;
mod error;
mod offsets;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rdkafka::{
    Offset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer, base_consumer::PartitionQueue},
    error::KafkaError as NativeError,
    message::{BorrowedMessage, Message},
    types::RDKafkaErrorCode as Code,
};
use saga_core::record::{Record, TopicPartition};

pub use error::ReadError;

use crate::consumer::is_unreadable;
use crate::{
    KafkaConfig, KafkaError,
    record::{Topics, copy},
};
use context::Context;
use offsets::Offsets;

/// librdkafka requires a group name; the reader never joins it.
const GROUP: &str = "saga-reader";
/// How long a poll waits for records.
const IDLE: Duration = Duration::from_millis(10);
/// So many unwanted records are skipped at a time, then it is another partition's turn.
const BURST: usize = 500;
/// How long a silent partition delays the others.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time limit for asking whether an unreachable broker is back.
const PROBE: Duration = Duration::from_secs(1);

/// A record, and when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The record.
    pub record: Record,
    /// By its producer's clock, or by the broker's where the topic is set so.
    pub written: Option<Timestamp>,
}

/// Reads partitions in the order of time.
///
/// Until it has [caught up](Reader::has_caught_up) with the ends that the partitions had when they were added, records
/// come in the order in which they were written, across all partitions: effects after their causes, as far as clocks
/// agree. After that they come as they arrive.
pub struct Reader {
    client: Arc<BaseConsumer<Context>>,
    bootstrap: String,
    /// Whether to continue after the end.
    follows: bool,
    partitions: Vec<Partition>,
    topics: Topics,
}

struct Partition {
    partition: TopicPartition,
    queue: PartitionQueue<Context>,
    since: Option<Timestamp>,
    start: i64,
    next: i64,
    end: i64,
    /// Everything up to the first end has been read.
    caught_up: bool,
    head: Option<Stored>,
    heard: Instant,
}

impl Reader {
    /// A reader that stops at the ends that its partitions had when they were added.
    ///
    /// # Errors
    /// When the configuration contradicts itself.
    pub fn of_the_past(config: &KafkaConfig) -> Result<Self, KafkaError> {
        Self::new(config, false)
    }

    /// A reader that continues with new records.
    ///
    /// # Errors
    /// When the configuration contradicts itself.
    pub fn following(config: &KafkaConfig) -> Result<Self, KafkaError> {
        Self::new(config, true)
    }

    fn new(config: &KafkaConfig, follows: bool) -> Result<Self, KafkaError> {
        // Per partition; there are many.
        let mut native = config.clone().with_default("queued.max.messages.kbytes", "1024").consumer(GROUP);
        native.set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        native.set("isolation.level", "read_committed").set("statistics.interval.ms", "0");
        let client = BaseConsumer::from_config_and_context(&native, Context::default())
            .map_err(|error| KafkaError::client(&error))?;
        Ok(Self {
            client: Arc::new(client),
            bootstrap: config.bootstrap_servers().to_owned(),
            follows,
            partitions: Vec::new(),
            topics: Topics::default(),
        })
    }

    fn offsets(&self) -> Offsets<'_> {
        Offsets { client: &self.client, bootstrap: &self.bootstrap }
    }

    /// How many partitions the topic has; none when there is no such topic.
    ///
    /// # Errors
    /// When no broker answers, or it refuses.
    pub fn partitions(&self, topic: &str) -> Result<Option<i32>, ReadError> {
        self.offsets().partitions(topic, None)
    }

    /// Adds these partitions: from their beginning, or what was written since a time.
    ///
    /// # Errors
    /// When no broker answers, or it refuses.
    pub fn add(&mut self, partitions: &[TopicPartition], since: Option<Timestamp>) -> Result<(), ReadError> {
        if partitions.is_empty() {
            return Ok(());
        }
        // Kafka's timestamps have milliseconds.
        let since = since.and_then(|since| Timestamp::from_millisecond(since.as_millisecond()).ok());
        let ranges = self.offsets().ranges(partitions, since)?;
        let wanted: Vec<_> = ranges.into_iter().filter(|s| self.follows || s.start < s.end).collect();
        let mut list = TopicPartitionList::with_capacity(wanted.len());
        for range in &wanted {
            list.add_partition_offset(&range.partition.topic, range.partition.partition, Offset::Offset(range.start))
                .map_err(|error| self.offsets().unreachable(&error))?;
        }
        // The queues come first: records that are fetched into the common queue would be lost.
        for offsets::OffsetRange { partition, start, end } in wanted {
            let queue = self
                .client
                .split_partition_queue(&partition.topic, partition.partition)
                .ok_or_else(|| KafkaError::Client(format!("librdkafka has no queue for {partition}")))?;
            let caught_up = start >= end;
            self.partitions.push(Partition {
                partition,
                queue,
                since,
                start,
                next: start,
                end,
                caught_up,
                head: None,
                heard: Instant::now(),
            });
        }
        self.client.incremental_assign(&list).map_err(|error| KafkaError::client(&error))?;
        Ok(())
    }

    /// The next record whose topic and key are wanted; none when there is none within this time.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn next(
        &mut self,
        wait: Duration,
        wanted: impl Fn(&str, Option<&[u8]>) -> bool,
    ) -> Result<Option<Stored>, ReadError> {
        let until = Instant::now() + wait;
        loop {
            self.serve(Duration::ZERO);
            let mut is_complete = true;
            let follows = self.follows;
            for partition in self.partitions.iter_mut().filter(|p| p.head.is_none() && (follows || !p.caught_up)) {
                partition.fill(&mut self.topics, follows, &wanted)?;
                is_complete &= partition.head.is_some() || partition.caught_up || partition.heard.elapsed() > PATIENCE;
            }
            // A partition without a record may have an older one.
            if is_complete {
                let oldest = self.partitions.iter_mut().filter(|p| p.head.is_some());
                if let Some(oldest) = oldest.min_by_key(|p| p.head.as_ref().and_then(|head| head.written)) {
                    oldest.heard = Instant::now();
                    return Ok(oldest.head.take());
                }
                if self.has_caught_up() && !follows {
                    return Ok(None);
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.serve(left.min(IDLE));
        }
    }

    /// Runs librdkafka's callbacks. Records come through their partitions' queues.
    fn serve(&self, wait: Duration) {
        if let Some(Err(error)) = self.client.poll(wait) {
            tracing::debug!("Kafka reader: {error}");
        }
    }

    /// Whether everything up to the first ends has been returned.
    pub fn has_caught_up(&self) -> bool {
        self.partitions.iter().all(Partition::is_handed_out)
    }

    /// Records read, and records to read, roughly: compacted ones count.
    pub fn progress(&self) -> (i64, i64) {
        let sum = |of: fn(&Partition) -> i64| self.partitions.iter().map(of).sum();
        (sum(|p| if p.caught_up { p.end.max(p.next) - p.start } else { p.next - p.start }), sum(|p| p.end - p.start))
    }

    /// The longest time that an unfinished partition has been silent.
    pub fn silence(&self) -> Duration {
        let waiting = self.partitions.iter().filter(|p| !p.caught_up && p.head.is_none());
        waiting.map(|p| p.heard.elapsed()).max().unwrap_or_default()
    }

    /// The connection's error, if there is one. Asks the broker, for up to a second, after an earlier error.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.client.context().trouble()?;
        let topic = self.partitions.first().map(|p| p.partition.topic.clone());
        let probed = match &topic {
            Some(topic) => self.offsets().partitions(topic, Some(PROBE)).map(drop),
            None => self.client.fetch_metadata(None, PROBE).map(drop).map_err(|e| self.offsets().unreachable(&e)),
        };
        match probed {
            Err(ReadError::Unreachable { .. }) => Some(trouble),
            _ => {
                self.client.context().set_trouble(None);
                None
            }
        }
    }

    /// The error for a broker that has stopped answering.
    pub fn gone_silent(&self) -> ReadError {
        let reason = self.client.context().trouble().unwrap_or_else(|| "it has stopped answering".to_owned());
        ReadError::Unreachable { bootstrap: self.bootstrap.clone(), reason }
    }
}

impl Partition {
    /// Whether all records up to the first end were returned.
    fn is_handed_out(&self) -> bool {
        self.caught_up && self.head.as_ref().is_none_or(|head| head.record.offset >= self.end)
    }

    /// Looks for a wanted record, for a while.
    fn fill(
        &mut self,
        topics: &mut Topics,
        follows: bool,
        wanted: &impl Fn(&str, Option<&[u8]>) -> bool,
    ) -> Result<(), ReadError> {
        for _ in 0..BURST {
            let Some(polled) = self.queue.poll(Duration::ZERO) else { return Ok(()) };
            match polled {
                Ok(message) => {
                    self.next = message.offset() + 1;
                    self.caught_up |= self.next >= self.end;
                    if follows || message.offset() < self.end {
                        let written = written(&message);
                        let is_new = self.since.is_none_or(|since| written.is_none_or(|written| written >= since));
                        if is_new && wanted(&self.partition.topic, message.key()) {
                            self.head = Some(Stored { record: copy(&message, topics), written });
                        }
                    }
                }
                // Also past hidden records: aborted transactions and transaction markers.
                Err(NativeError::PartitionEOF(_)) => self.caught_up = true,
                Err(error) => match error.rdkafka_error_code() {
                    Some(Code::TopicAuthorizationFailed) => {
                        return Err(ReadError::NotAllowed { topic: self.partition.topic.to_string() });
                    }
                    // The client would fetch it for ever, and never get past it.
                    Some(code) if is_unreadable(code) => {
                        let reason = format!(
                            "partition {} has records in a form that cannot be read: {code}",
                            self.partition.partition
                        );
                        return Err(ReadError::Refused { topic: self.partition.topic.to_string(), reason });
                    }
                    // It passes, or the silence is reported: an error is no answer of the partition.
                    _ => {
                        tracing::debug!("Kafka reader: {}: {error}", self.partition);
                        continue;
                    }
                },
            }
            self.heard = Instant::now();
            if self.head.is_some() || (self.caught_up && !follows) {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn written(message: &BorrowedMessage<'_>) -> Option<Timestamp> {
    Timestamp::from_millisecond(message.timestamp().to_millis()?).ok()
}

//! Reads the topics on its own thread and sends the records to a channel.

use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use saga_core::record::TopicPartition;
use saga_kafka::{KafkaConfig, ReadError, Reader};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::{
    event::{has_dead_letters, saga_of},
    observed_record::ObservedRecord,
};

/// Most records per batch.
const BATCH: usize = 500;
/// Most batches that wait in the channel; then reading pauses.
const CHANNEL_CAPACITY: usize = 16;
const WAIT: Duration = Duration::from_millis(50);
/// How often to look for new topics and partitions.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(5);
/// How often to check the connection.
const CONNECTION_CHECK: Duration = Duration::from_secs(1);

/// An update from the reading thread.
pub(super) enum ReaderUpdate {
    Records(Vec<ObservedRecord>),
    /// Everything that was in the topics at the start has been sent.
    CaughtUp,
    /// The connection error; none when the connection is back.
    Trouble(Option<String>),
    /// The set of missing topics has changed.
    Missing(Vec<String>),
    /// Reading has ended.
    Failed(ReadError),
}

/// Reads the topics.
pub(super) struct TopicReader {
    reader: Reader,
    topics: Vec<String>,
    since: Option<Timestamp>,
    /// The number of partitions read of each topic.
    known: BTreeMap<String, i32>,
    updates: Sender<ReaderUpdate>,
}

/// Dead letters count whatever their key, since a bad key may be the reason. Event topics may hold records of others,
/// whose keys are not saga ids.
fn is_wanted(topic: &str, key: Option<&[u8]>) -> bool {
    has_dead_letters(topic) || key.is_none() || saga_of(key).is_some()
}

/// The receiver was dropped.
struct ReceiverDropped;

impl TopicReader {
    /// Connects and starts reading. Returns the receiver and the missing topics.
    pub(super) fn start(
        kafka: &KafkaConfig,
        topics: Vec<String>,
        since: Option<Timestamp>,
    ) -> Result<(Receiver<ReaderUpdate>, Vec<String>), TopicReaderError> {
        let (updates, receiver) = channel(CHANNEL_CAPACITY);
        let reader = Reader::following(kafka).map_err(ReadError::from)?;
        let mut feed = Self { reader, topics, since, known: BTreeMap::new(), updates };
        // Fails here when the broker is unreachable.
        let missing = feed.discover_partitions()?;
        let known = missing.clone();
        thread::Builder::new().name("feed".into()).spawn(move || feed.run(known)).map_err(TopicReaderError::Thread)?;
        Ok((receiver, missing))
    }

    /// Adds new partitions. Returns the missing topics.
    fn discover_partitions(&mut self) -> Result<Vec<String>, ReadError> {
        let (mut missing, mut to_read) = (Vec::new(), Vec::new());
        for name in &self.topics {
            let Some(partitions) = self.reader.partitions(name)? else {
                missing.push(name.clone());
                continue;
            };
            let topic: Arc<str> = name.as_str().into();
            let known = self.known.get(name).copied().unwrap_or_default();
            to_read.extend((known..partitions).map(|partition| TopicPartition { topic: topic.clone(), partition }));
        }
        self.reader.add(&to_read, self.since)?;
        for TopicPartition { topic, partition } in to_read {
            let known = self.known.entry(topic.to_string()).or_default();
            *known = (*known).max(partition + 1);
        }
        Ok(missing)
    }

    fn run(mut self, missing: Vec<String>) {
        let failed = match self.follow(missing) {
            Ok(ReceiverDropped) => return,
            Err(error) => error,
        };
        // The receiver may be gone already.
        let _ = self.updates.blocking_send(ReaderUpdate::Failed(failed));
    }

    fn follow(&mut self, mut missing: Vec<String>) -> Result<ReceiverDropped, ReadError> {
        let (mut last_discovery, mut last_check, mut has_caught_up, mut trouble) =
            (Instant::now(), Instant::now(), false, None);
        loop {
            let mut batch = Vec::new();
            let mut wait = WAIT;
            while batch.len() < BATCH
                && let Some(stored) = self.reader.next(wait, is_wanted)?
            {
                batch.push(ObservedRecord::of(stored));
                wait = Duration::ZERO;
            }
            if !batch.is_empty() && !self.send(ReaderUpdate::Records(batch)) {
                return Ok(ReceiverDropped);
            }
            if !has_caught_up && self.reader.has_caught_up() {
                has_caught_up = true;
                if !self.send(ReaderUpdate::CaughtUp) {
                    return Ok(ReceiverDropped);
                }
            }
            if last_check.elapsed() >= CONNECTION_CHECK {
                last_check = Instant::now();
                let now = self.reader.trouble();
                if now.is_some() != trouble.is_some() && !self.send(ReaderUpdate::Trouble(now.clone())) {
                    return Ok(ReceiverDropped);
                }
                trouble = now;
            }
            if last_discovery.elapsed() >= DISCOVERY_INTERVAL && trouble.is_none() {
                last_discovery = Instant::now();
                match self.discover_partitions() {
                    Ok(now) if now == missing => {}
                    Ok(now) => {
                        missing = now;
                        if !self.send(ReaderUpdate::Missing(missing.clone())) {
                            return Ok(ReceiverDropped);
                        }
                    }
                    // The connection check reports it.
                    Err(ReadError::Unreachable { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Returns whether the receiver still exists.
    fn send(&self, update: ReaderUpdate) -> bool {
        self.updates.blocking_send(update).is_ok()
    }
}

/// Why the topics cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopicReaderError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a thread cannot be started")]
    Thread(#[source] io::Error),
}

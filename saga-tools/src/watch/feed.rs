//! Reads the topics on a thread of its own, and hands over what it reads.

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
    seen::Seen,
};

/// Records are handed over so many at a time.
const BATCH: usize = 500;
/// Batches that wait; then reading does.
const WAITING: usize = 16;
const WAIT: Duration = Duration::from_millis(50);
/// How often topics and partitions that were not there are looked for.
const LOOK_AROUND: Duration = Duration::from_secs(5);
/// How often the broker is asked whether it is back.
const ASK: Duration = Duration::from_secs(1);

/// What there is to say.
pub(super) enum News {
    Records(Vec<Seen>),
    /// Everything that was there at the start has been handed over.
    CaughtUp,
    /// What is wrong with the connection; none when it is mended.
    Trouble(Option<String>),
    /// Other topics are not there than before.
    Missing(Vec<String>),
    /// The end.
    Failed(ReadError),
}

/// Where to begin.
pub(super) struct Feed {
    reader: Reader,
    topics: Vec<String>,
    since: Option<Timestamp>,
    /// How many partitions of each topic are read.
    known: BTreeMap<String, i32>,
    news: Sender<News>,
}

/// A dead letter counts whatever its key: a bad one may be why it is there. On the topics of events, keys that name no saga
/// may be those of others.
fn is_wanted(topic: &str, key: Option<&[u8]>) -> bool {
    has_dead_letters(topic) || key.is_none() || saga_of(key).is_some()
}

/// Whoever listens has gone.
struct NobodyListens;

impl Feed {
    /// Connects, and begins to read; the topics that are not there yet.
    pub(super) fn start(
        kafka: &KafkaConfig,
        topics: Vec<String>,
        since: Option<Timestamp>,
    ) -> Result<(Receiver<News>, Vec<String>), FeedError> {
        let (news, receiver) = channel(WAITING);
        let reader = Reader::following(kafka).map_err(ReadError::from)?;
        let mut feed = Self { reader, topics, since, known: BTreeMap::new(), news };
        // The first look fails at once where nobody answers.
        let missing = feed.look_around()?;
        let known = missing.clone();
        thread::Builder::new().name("feed".into()).spawn(move || feed.run(known)).map_err(FeedError::Thread)?;
        Ok((receiver, missing))
    }

    /// Adds what is new; the topics that are missing.
    fn look_around(&mut self) -> Result<Vec<String>, ReadError> {
        let (mut missing, mut places) = (Vec::new(), Vec::new());
        for name in &self.topics {
            let Some(partitions) = self.reader.partitions(name)? else {
                missing.push(name.clone());
                continue;
            };
            let topic: Arc<str> = name.as_str().into();
            let known = self.known.get(name).copied().unwrap_or_default();
            places.extend((known..partitions).map(|partition| TopicPartition { topic: topic.clone(), partition }));
        }
        self.reader.add(&places, self.since)?;
        for TopicPartition { topic, partition } in places {
            let known = self.known.entry(topic.to_string()).or_default();
            *known = (*known).max(partition + 1);
        }
        Ok(missing)
    }

    fn run(mut self, missing: Vec<String>) {
        let failed = match self.follow(missing) {
            Ok(NobodyListens) => return,
            Err(error) => error,
        };
        // Nobody may be listening any more.
        let _ = self.news.blocking_send(News::Failed(failed));
    }

    fn follow(&mut self, mut missing: Vec<String>) -> Result<NobodyListens, ReadError> {
        let (mut looked, mut asked, mut has_caught_up, mut trouble) = (Instant::now(), Instant::now(), false, None);
        loop {
            let mut batch = Vec::new();
            let mut wait = WAIT;
            while batch.len() < BATCH
                && let Some(stored) = self.reader.next(wait, is_wanted)?
            {
                batch.push(Seen::of(stored));
                wait = Duration::ZERO;
            }
            if !batch.is_empty() && !self.tell(News::Records(batch)) {
                return Ok(NobodyListens);
            }
            if !has_caught_up && self.reader.has_caught_up() {
                has_caught_up = true;
                if !self.tell(News::CaughtUp) {
                    return Ok(NobodyListens);
                }
            }
            if asked.elapsed() >= ASK {
                asked = Instant::now();
                let now = self.reader.trouble();
                if now.is_some() != trouble.is_some() && !self.tell(News::Trouble(now.clone())) {
                    return Ok(NobodyListens);
                }
                trouble = now;
            }
            if looked.elapsed() >= LOOK_AROUND && trouble.is_none() {
                looked = Instant::now();
                match self.look_around() {
                    Ok(now) if now == missing => {}
                    Ok(now) => {
                        missing = now;
                        if !self.tell(News::Missing(missing.clone())) {
                            return Ok(NobodyListens);
                        }
                    }
                    // It is known to be away soon enough.
                    Err(ReadError::Unreachable { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Whether anybody listens.
    fn tell(&self, news: News) -> bool {
        self.news.blocking_send(news).is_ok()
    }
}

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("no thread")]
    Thread(#[source] io::Error),
}

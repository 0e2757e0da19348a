//! A member of a participant's consumer group.

mod buffer;
mod commit;
mod context;
mod errors;
mod health;
mod metrics;
mod partitions;
mod poll;
mod positions;
mod stats;
mod topic_ids;
mod watch;

use std::{
    collections::HashSet,
    mem,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use rdkafka::consumer::Consumer as _;
use saga_core::{
    record::TopicPartition,
    transport::{Consumer, Signal},
};
use tokio::sync::oneshot;

pub(crate) use errors::is_unreadable;
pub use metrics::ConsumerMetrics;
pub use stats::Position;

use crate::{KafkaConfig, KafkaError};
use context::Shared;
use partitions::Partitions;
use watch::Turns;

/// Time limit for committing and leaving the group at the end. After it the broker's session timeout ends the
/// membership.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
/// How often the poll thread is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// A member of a consumer group, on a thread of its own.
///
/// - Stored offsets are committed twice a second, when partitions are revoked, and at the end.
/// - While the runtime takes nothing, at most 4,000 records or 16 MiB wait, and fetching pauses.
/// - [`Signal::Waiting`] comes within about two seconds of a lost connection and six of a broker that hangs. It names
///   missing topics and missing rights, which can be granted without a restart. [`Signal::Ready`] comes within a second
///   or two of their return.
/// - It also reports a group with another assignment strategy, records that cannot be read, and a partition that an
///   open transaction has blocked for ten seconds.
/// - A topic that was deleted and created again is read from its start, whatever was committed before; the runtime sees
///   its partitions revoked and assigned. So is a log whose offsets go back. Records that were deleted unread are
///   counted and logged as WARN.
/// - A call of librdkafka that has not returned for a minute is reported, and is [`Signal::Fatal`] after five.
/// - When another process takes over the instance id, this one releases its partitions at once and rejoins after half a
///   second, 1, 2 and 4 seconds. The fifth time within a minute is [`Signal::Fatal`].
/// - Dropped without [`Consumer::close`], it still commits the stored offsets and leaves, in the background.
pub struct KafkaConsumer {
    shared: Arc<Shared>,
    group: String,
    /// When the poll thread was last looked at.
    watched: Instant,
    /// Whether it hung then.
    hung: bool,
    ended: Option<oneshot::Receiver<()>>,
}

impl KafkaConsumer {
    /// Joins the group and subscribes to these topics. Returns at once: [`Consumer::next`] reports an unreachable
    /// broker or a missing topic.
    ///
    /// # Errors
    /// When the configuration contradicts itself.
    pub fn subscribe(config: &KafkaConfig, group: &str, topics: &[String]) -> Result<Self, KafkaError> {
        let shared = Arc::new(Shared::new(config.bootstrap_servers()));
        let thread = poll::Thread::new(config.clone(), group, topics, shared.clone());
        let client = thread.client()?;
        let (end, ended) = oneshot::channel();
        let alarm = Alarm(shared.clone());
        thread::Builder::new()
            .name(format!("kafka-{group}"))
            .spawn(move || {
                let _alarm = alarm;
                thread.run(client);
                // The receiver may be gone.
                let _ = end.send(());
            })
            .map_err(|error| KafkaError::Client(format!("no thread for the consumer: {error}")))?;
        Ok(Self { shared, group: group.to_owned(), watched: Instant::now(), hung: false, ended: Some(ended) })
    }

    /// The consumer's figures, for other tasks.
    pub fn metrics(&self) -> ConsumerMetrics {
        self.shared.metrics.clone()
    }

    /// Number of records that were fetched and not taken yet.
    pub fn buffered(&self) -> usize {
        self.shared.buffer.count()
    }

    /// Reports a poll thread that hangs; a signal when it has for too long. Two looks in a row have to say so: after a process was
    /// stopped and goes on, the first one may come before the poll thread turns.
    fn watch(&mut self) -> Option<Signal> {
        let turns = self.shared.watch.judge(Instant::now());
        let again = mem::replace(&mut self.hung, turns != Turns::Well);
        if turns != Turns::Well && again {
            let trouble = watch::trouble(&self.group);
            self.shared.health(|health| (health.group(Some(trouble.clone())), ()));
            if turns == Turns::Dead {
                tracing::error!("Kafka: {trouble}");
                return Some(Signal::Fatal(trouble));
            }
        }
        None
    }

    fn stop(&self) {
        self.shared.closing.store(true, Relaxed);
        self.shared.buffer.close();
    }
}

impl Consumer for KafkaConsumer {
    async fn next(&mut self, room: usize) -> Signal {
        // The caller may drop this future at any time, so the next look has a time of its own.
        let signal = loop {
            if self.watched.elapsed() >= WATCH_EVERY {
                self.watched = Instant::now();
                if let Some(fatal) = self.watch() {
                    return fatal;
                }
            }
            let left = WATCH_EVERY.saturating_sub(self.watched.elapsed());
            if let Ok(signal) = tokio::time::timeout(left, self.shared.buffer.next(room)).await {
                break signal;
            }
        };
        if let Signal::Assigned(partitions) = &signal {
            self.shared.state().partitions.announced(partitions);
        }
        signal
    }

    fn store_offsets(&self, offsets: &[(TopicPartition, i64)]) {
        let state = self.shared.state();
        let list = state.partitions.storable(offsets);
        let Some(client) = &state.client else {
            // Fenced: another process owns the partitions.
            return self.shared.metrics.stale(offsets.len() as u64);
        };
        // Each element has its own result. A revoked partition is no error: its new owner starts before this offset.
        let result = client.store_offsets(&list);
        let stored = list.elements().iter().filter(|element| element.error().is_ok()).count();
        drop(state);
        if stored < offsets.len() {
            self.shared.metrics.stale((offsets.len() - stored) as u64);
        } else if let Err(error) = result {
            tracing::warn!("Kafka: offsets were not stored, their events come again: {error}");
        }
    }

    fn pause(&self, partitions: &[TopicPartition], paused: bool) {
        let mut state = self.shared.state();
        // A partition that is stopped for another reason stays stopped until that reason ends.
        let stopped = |ours: &Partitions| -> HashSet<TopicPartition> {
            partitions.iter().filter(|p| ours.is_stopped(p)).cloned().collect()
        };
        let before = stopped(&state.partitions);
        for partition in
            partitions.iter().filter(|p| state.partitions.assigned.contains_key(p)).cloned().collect::<Vec<_>>()
        {
            if paused {
                state.partitions.paused.insert(partition);
            } else {
                state.partitions.paused.remove(&partition);
            }
        }
        let changed: Vec<_> = before.symmetric_difference(&stopped(&state.partitions)).cloned().collect();
        if let Some(client) = &state.client {
            context::pause(client, &changed, paused);
        }
    }

    async fn close(mut self) {
        self.stop();
        if let Some(ended) = self.ended.take()
            && tokio::time::timeout(CLOSE_PATIENCE, ended).await.is_err()
        {
            tracing::warn!("Kafka: the consumer did not close within {CLOSE_PATIENCE:?}; its group will notice");
        }
    }
}

/// Turns a panic of the poll thread into [`Signal::Fatal`].
struct Alarm(Arc<Shared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.buffer.push(Signal::Fatal("the consumer's thread panicked".into()));
        }
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EmbeddedBroker;

    /// A consumer without a poll thread, which turned so long ago and is looked at now.
    struct Hanging(KafkaConsumer);

    impl Hanging {
        fn new() -> Self {
            let shared = Arc::new(Shared::new("x:1"));
            Self(KafkaConsumer { shared, group: "hotel".into(), watched: Instant::now(), hung: false, ended: None })
        }

        /// What a look finds when the thread has not turned for so many seconds.
        async fn look(&mut self, seconds: u64) -> Option<Signal> {
            self.0.shared.watch.turned(Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap());
            self.0.watched = self.0.watched.checked_sub(WATCH_EVERY).unwrap();
            tokio::time::timeout(Duration::from_millis(10), self.0.next(1)).await.ok()
        }
    }

    #[tokio::test]
    async fn a_thread_that_hangs_is_told_at_the_second_look_and_ends_the_consumer_later() {
        let mut consumer = Hanging::new();
        assert!(consumer.look(70).await.is_none(), "the process may have been stopped");
        let told = consumer.look(75).await;
        assert!(matches!(&told, Some(Signal::Waiting(why)) if why.contains("group hotel hangs")), "{told:?}");
        assert!(consumer.look(80).await.is_none(), "it is told once");
        let ended = consumer.look(301).await;
        assert!(matches!(&ended, Some(Signal::Fatal(why)) if why.contains("group hotel hangs")), "{ended:?}");
    }

    #[tokio::test]
    async fn a_process_that_was_stopped_and_goes_on_is_well() {
        let mut consumer = Hanging::new();
        assert!(consumer.look(3_600).await.is_none());
        assert!(consumer.look(0).await.is_none());
        assert!(consumer.look(3_600).await.is_none(), "the second look in a row counts");
    }

    #[tokio::test]
    async fn a_poll_thread_turns() {
        let broker = EmbeddedBroker::start(&["trip.events"], 1).unwrap();
        let consumer = KafkaConsumer::subscribe(&broker.config(), "hotel", &["trip.events".to_owned()]).unwrap();
        consumer.shared.watch.turned(Instant::now().checked_sub(Duration::from_secs(400)).unwrap());
        let judge = || consumer.shared.watch.judge(Instant::now());
        saga_test_support::wait_for(judge, |turns| *turns == Turns::Well);
        consumer.close().await;
    }
}

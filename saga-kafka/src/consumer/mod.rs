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

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
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

/// Committing and leaving the group may take so long; then the process is let go, and the group finds out by itself.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// A member of a consumer group, on a thread of its own.
///
/// - Offsets that are stored are committed twice a second, when partitions go, and at the end.
/// - When the runtime takes nothing, at most 4,000 records or 16 MiB wait, and fetching pauses.
/// - [`Signal::Waiting`] comes within about two seconds of a lost connection, six of a broker that hangs, and names
///   missing topics; [`Signal::Ready`] within a second or two of their return. Missing rights are waited for too: they
///   can be granted without a restart.
/// - It also names a group that has another strategy, records that cannot be read, and a partition that somebody's open
///   transaction has held back for ten seconds.
/// - A topic that was deleted and made anew is read from its start, whatever was committed of the old one: to the runtime
///   its partitions are revoked and assigned. So is a log whose positions go back. Records that were deleted unread are
///   counted, and each is a WARN.
/// - Another process with the same instance id takes this one's partitions. It lets go of them at once and rejoins
///   after half a second, 1, 2 and 4 seconds; the fifth time within a minute is [`Signal::Fatal`].
/// - Dropped without [`Consumer::close`], it still commits what is stored and leaves, in the background.
pub struct KafkaConsumer {
    shared: Arc<Shared>,
    ended: Option<oneshot::Receiver<()>>,
}

impl KafkaConsumer {
    /// Joins the group, which is the participant's name, and subscribes to these topics. Returns at once: a broker that
    /// is away or a topic that is missing is reported by [`Consumer::next`].
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
                // Nobody may be waiting any more.
                let _ = end.send(());
            })
            .map_err(|error| KafkaError::Client(format!("no thread for the consumer: {error}")))?;
        Ok(Self { shared, ended: Some(ended) })
    }

    /// The consumer's figures, for another task to read.
    pub fn metrics(&self) -> ConsumerMetrics {
        self.shared.metrics.clone()
    }

    /// Records that were fetched and not taken yet.
    pub fn buffered(&self) -> usize {
        self.shared.buffer.count()
    }

    fn stop(&self) {
        self.shared.closing.store(true, Relaxed);
        self.shared.buffer.close();
    }
}

impl Consumer for KafkaConsumer {
    async fn next(&mut self, room: usize) -> Signal {
        let signal = self.shared.buffer.next(room).await;
        if let Signal::Assigned(partitions) = &signal {
            self.shared.state().partitions.announced(partitions);
        }
        signal
    }

    fn store_offsets(&self, offsets: &[(TopicPartition, i64)]) {
        let state = self.shared.state();
        let list = state.partitions.storable(offsets);
        let Some(client) = &state.client else {
            // Fenced: the partitions are another's.
            return self.shared.metrics.stale(offsets.len() as u64);
        };
        // The result is that of the list's elements: one that has gone is no error, its new owner starts before it.
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
        // What is stopped for another reason stays so; it starts when that reason is gone.
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

/// A panic of the poll thread must end the process, not its consuming alone.
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

//! A member of a participant's consumer group.

mod buffer;
mod commit;
mod context;
mod health;
mod metrics;
mod poll;
mod stats;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use rdkafka::{Offset, TopicPartitionList, consumer::Consumer as _};
use saga_core::{
    record::TopicPartition,
    transport::{Consumer, Signal},
};
use tokio::sync::oneshot;

pub use metrics::{ConsumerMetrics, Progress};

use crate::{KafkaConfig, KafkaError};
use context::Shared;

/// Committing and leaving the group may take so long; then the process is let go, and the group finds out by itself.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// A member of a consumer group, on a thread of its own.
///
/// - Offsets that are stored are committed twice a second, when partitions go, and at the end.
/// - When the runtime takes nothing, at most 4,000 records or 16 MiB wait, and fetching pauses.
/// - [`Signal::Waiting`] comes within about two seconds of a lost connection, six of a broker that hangs, and names
///   missing topics; [`Signal::Ready`] within a second or two of their return. Missing rights are waited for too: they
///   can be granted without a restart.
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

    /// How far behind the consumer is: see [`ConsumerMetrics::lag`].
    pub fn lag(&self) -> Vec<(TopicPartition, i64)> {
        self.shared.metrics.lag()
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
        self.shared.buffer.next(room).await
    }

    fn store_offsets(&self, offsets: &[(TopicPartition, i64)]) {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, next) in offsets {
            // Not `store_offset`: that takes the offset before.
            let mut element = list.add_partition(&partition.topic, partition.partition);
            if let Err(error) = element.set_offset(Offset::Offset(*next)) {
                tracing::error!(%partition, next, "Kafka: no offset: {error}");
                return;
            }
        }
        let flow = self.shared.flow();
        let Some(client) = &flow.client else {
            // Fenced: the partitions are another's.
            return self.shared.metrics.stale(offsets.len() as u64);
        };
        // The result is that of the list's elements: one that has gone is no error, its new owner starts before it.
        let result = client.store_offsets(&list);
        let stale = list.elements().iter().filter(|element| element.error().is_err()).count();
        drop(flow);
        if stale > 0 {
            self.shared.metrics.stale(stale as u64);
        } else if let Err(error) = result {
            tracing::warn!("Kafka: offsets were not stored, their events come again: {error}");
        }
    }

    fn pause(&self, partitions: &[TopicPartition], paused: bool) {
        let mut flow = self.shared.flow();
        let ours: Vec<TopicPartition> = partitions.iter().filter(|p| flow.assigned.contains(p)).cloned().collect();
        for partition in &ours {
            if paused {
                flow.paused.insert(partition.clone());
            } else {
                flow.paused.remove(partition);
            }
        }
        // While all is held, what is resumed now starts with the rest.
        if let Some(client) = &flow.client
            && !flow.held
        {
            context::pause(client, &ours, paused);
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

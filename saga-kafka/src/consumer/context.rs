//! librdkafka's callbacks, which run on the poll thread, inside `poll`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool, atomic::Ordering::Relaxed, mpsc::RecvTimeoutError,
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance},
    error::{KafkaError as NativeError, KafkaResult},
};
use saga_core::{
    record::TopicPartition,
    transport::{RevokeGuard, Signal},
};

use super::{
    buffer::Buffer,
    commit,
    errors::kind_of,
    health::Health,
    metrics::ConsumerMetrics,
    partitions::{Cursor, Partitions},
    stats::{Drained, Stats},
    watch::Watch,
};

/// How long a rebalance, and with it the group, waits for the runtime to release partitions.
const REVOKE_PATIENCE: Duration = Duration::from_secs(5);

pub(super) type Client = BaseConsumer<Context>;

/// The client and its partitions. The lock is held during calls of librdkafka, so that both always agree, and never
/// during a wait.
#[derive(Default)]
pub(super) struct State {
    /// The client in use. The poll thread has the other reference and drops the last one, because that can block.
    pub(super) client: Option<Arc<Client>>,
    pub(super) partitions: Partitions,
}

/// State that the runtime's side and the poll thread share.
pub(super) struct Shared {
    pub(super) bootstrap: String,
    pub(super) buffer: Buffer,
    pub(super) metrics: ConsumerMetrics,
    pub(super) closing: AtomicBool,
    state: Mutex<State>,
    health: Mutex<Health>,
    pub(super) watch: Watch,
    /// Drained logs of the last statistics, until the poll thread looks at them.
    pub(super) drained: Mutex<HashMap<TopicPartition, Drained>>,
}

impl Shared {
    pub(super) fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            buffer: Buffer::default(),
            metrics: ConsumerMetrics::default(),
            closing: AtomicBool::new(false),
            state: Mutex::default(),
            health: Mutex::default(),
            watch: Watch::default(),
            drained: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Revokes these partitions from the runtime, and waits until it has released them.
    pub(super) fn let_go_of(&self, partitions: Vec<TopicPartition>) {
        let (guard, dropped) = RevokeGuard::new();
        // A closed buffer takes no signal and drops the guard at once.
        self.buffer.revoke(partitions, guard);
        if dropped.recv_timeout(REVOKE_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("Kafka: partitions are revoked with events in flight, after {REVOKE_PATIENCE:?}");
        }
    }

    /// Runs `change` on the health and passes on its signal.
    pub(super) fn health<T>(&self, change: impl FnOnce(&mut Health) -> (Option<Signal>, T)) -> T {
        // The lock is held until the signal is queued, so that signals keep their order.
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let (signal, result) = change(&mut health);
        if let Some(signal) = signal {
            self.buffer.push(signal);
        }
        result
    }
}

pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    /// Partitions were revoked: the poll thread may still have records of theirs.
    pub(super) revoked: AtomicBool,
    /// The client is being closed: the runtime knows already, and the stored offsets are committed.
    pub(super) retired: AtomicBool,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::log::line(level, facility, message);
    }

    fn stats_raw(&self, json: &[u8]) {
        let stats: Stats = match serde_json::from_slice(json) {
            Ok(stats) => stats,
            Err(error) => return tracing::warn!("librdkafka's statistics cannot be read: {error}"),
        };
        let state = self.shared.state();
        let assigned: Vec<TopicPartition> = state.partitions.assigned.keys().cloned().collect();
        let running: Vec<TopicPartition> =
            assigned.iter().filter(|p| !state.partitions.is_stopped(p)).cloned().collect();
        drop(state);
        *self.shared.drained.lock().unwrap_or_else(PoisonError::into_inner) = stats.drained(&assigned);
        self.shared.metrics.set_positions(&stats, assigned);
        self.shared.health(|health| (health.tick(&stats, &running, &self.shared.bootstrap, Instant::now()), ()));
    }

    fn error(&self, error: NativeError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.shared.metrics.error(kind_of(code));
            self.shared.health(|health| (health.error(code, reason, Instant::now()), ()));
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, client: &Client, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            self.revoke(client, list(partitions));
        }
    }

    fn post_rebalance(&self, client: &Client, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => self.assign(client, list(partitions)),
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!("Kafka: rebalance failed: {error}"),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        match result {
            Ok(()) => {}
            Err(error) if commit::nothing_to_do(&error) => {}
            // Events since the last commit may come again; the barrier makes that harmless.
            Err(error) => tracing::debug!("Kafka: offsets were not committed: {error}"),
        }
    }
}

impl Context {
    fn assign(&self, client: &Client, partitions: Vec<TopicPartition>) {
        // Empty when there are more members than partitions, or when all stay where they are.
        if !partitions.is_empty() {
            tracing::info!(partitions = %names(&partitions), "Kafka: partitions assigned");
            self.shared.metrics.rebalanced();
        }
        self.shared.metrics.assigned(&partitions);
        let mut state = self.shared.state();
        for partition in &partitions {
            // A partition starts unpaused, whatever it was when it was revoked.
            state.partitions.paused.remove(partition);
            state.partitions.assigned.insert(partition.clone(), Cursor::default());
        }
        // Paused until the poll thread knows where reading starts.
        pause(client, &partitions, true);
        state.partitions.announce(&partitions);
        drop(state);
        self.shared.buffer.push(Signal::Assigned(partitions));
    }

    /// Fences the partitions, revokes them from the runtime, waits, and commits. librdkafka gives the partitions away
    /// after that.
    fn revoke(&self, client: &Client, partitions: Vec<TopicPartition>) {
        if self.retired.load(Relaxed) {
            return;
        }
        let lost = client.assignment_lost();
        tracing::info!(partitions = %names(&partitions), lost, "Kafka: partitions revoked");
        self.shared.metrics.rebalanced();
        let leaving = self.forget(&partitions);
        if lost {
            // Others own them already: waiting is useless, and a commit would overwrite theirs.
            self.shared.buffer.revoke(partitions, RevokeGuard::unguarded());
            return;
        }
        self.shared.state().partitions.leaving = leaving;
        self.shared.let_go_of(partitions);
        commit::stored(client);
        self.shared.state().partitions.leaving.clear();
    }

    pub(super) fn forget(&self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Cursor> {
        self.revoked.store(true, Relaxed);
        let mut state = self.shared.state();
        let forget = |partition: &TopicPartition| {
            state.partitions.paused.remove(partition);
            state.partitions.assigned.remove_entry(partition)
        };
        partitions.iter().filter_map(forget).collect()
    }
}

/// Pauses or resumes partitions in librdkafka, which ignores those that were revoked meanwhile.
pub(super) fn pause(client: &Client, partitions: &[TopicPartition], paused: bool) {
    if partitions.is_empty() {
        return;
    }
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    let result = if paused { client.pause(&list) } else { client.resume(&list) };
    if let Err(error) = result {
        tracing::debug!(paused, "Kafka: {error}");
    }
}

fn list(partitions: &TopicPartitionList) -> Vec<TopicPartition> {
    let mut topics = crate::record::Topics::default();
    let partition = |p: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| TopicPartition {
        topic: topics.get(p.topic()),
        partition: p.partition(),
    };
    partitions.elements().iter().map(partition).collect()
}

fn names(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

//! The poll thread: takes what librdkafka has, hands it over, and replaces a client that failed for good.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError as NativeError,
    types::RDKafkaErrorCode as Code,
};
use saga_core::{
    record::TopicPartition,
    transport::{RevokeGuard, Signal},
};

use super::{
    buffer,
    context::{Client, Context, Shared, pause},
};
use crate::{KafkaConfig, KafkaError, record};

/// How long the thread sleeps when nothing comes; the most that a close waits for it.
const IDLE: Duration = Duration::from_millis(100);
/// The same while everything is paused: after this the runtime is looked after again.
const IDLE_HELD: Duration = Duration::from_millis(20);
/// What is handed over at once, at most.
const BATCH_RECORDS: usize = 500;
const BATCH_BYTES: usize = 4 << 20;
/// A full buffer is waited for so long before fetching is paused: pausing throws away what was fetched ahead.
const FULL_PATIENCE: Duration = Duration::from_millis(300);
/// Asking about a topic or a partition may take so long.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// How often the ends of paused partitions are asked for, and the ids of topics.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Where reading begins on a partition is asked again after this.
const BEGIN_PAUSE: Duration = Duration::from_millis(500);
/// A client that fails for good so often within [`FAILURES_WITHIN`] is given up.
const FAILURES: usize = 5;
const FAILURES_WITHIN: Duration = Duration::from_secs(60);

pub(super) struct Thread {
    config: KafkaConfig,
    group: String,
    topics: Vec<String>,
    pub(super) shared: Arc<Shared>,
}

/// Why a client is not polled any more.
enum End {
    Closing,
    Failed(Code, String),
}

impl Thread {
    pub(super) fn new(config: KafkaConfig, group: &str, topics: &[String], shared: Arc<Shared>) -> Self {
        Self { config, group: group.to_owned(), topics: topics.to_vec(), shared }
    }

    pub(super) fn client(&self) -> Result<Arc<Client>, KafkaError> {
        let context =
            Context { shared: self.shared.clone(), revoked: AtomicBool::default(), retired: AtomicBool::default() };
        let client = BaseConsumer::from_config_and_context(&self.config.consumer(&self.group), context)
            .map_err(|error| KafkaError::client(&error))?;
        self.subscribe(&client)?;
        let client = Arc::new(client);
        self.shared.state().client = Some(client.clone());
        Ok(client)
    }

    fn subscribe(&self, client: &Client) -> Result<(), KafkaError> {
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        client.subscribe(&topics).map_err(|error| KafkaError::client(&error))
    }

    pub(super) fn run(self, mut client: Arc<Client>) {
        let mut failures = VecDeque::new();
        loop {
            let (code, reason) = match self.poll(&client) {
                End::Closing => {
                    super::commit::stored(&client);
                    return self.retire(client);
                }
                End::Failed(code, reason) => (code, reason),
            };
            self.let_go(&client);
            self.retire(client);
            self.shared.metrics.was_fenced();
            let now = Instant::now();
            failures.push_back(now);
            failures.retain(|at| now.duration_since(*at) < FAILURES_WITHIN);
            let trouble = self.trouble(code, &reason);
            if failures.len() >= FAILURES {
                tracing::error!("Kafka: {trouble}");
                return self.shared.buffer.push(Signal::Fatal(trouble));
            }
            self.shared.health(|health| (health.group(Some(trouble)), ()));
            let Some(next) = self.rejoin(failures.len()) else { return };
            client = next;
        }
    }

    fn trouble(&self, code: Code, reason: &str) -> String {
        match (code, self.config.instance_id()) {
            (Code::FencedInstanceId, Some(id)) => {
                format!(
                    "another process of group {} has this one's SAGA_INSTANCE_ID ({id}); each needs its own",
                    self.group
                )
            }
            _ => format!("the consumer of group {} failed: {reason}", self.group),
        }
    }

    /// Takes what comes until the consumer closes or the client fails for good.
    fn poll(&self, client: &Arc<Client>) -> End {
        let mut topics = record::Topics::default();
        let (mut looked, mut begin_at) = (Instant::now(), Instant::now());
        loop {
            if self.shared.closing.load(Relaxed) {
                return End::Closing;
            }
            if self.shared.buffer.is_full() && !self.shared.buffer.wait_for_room(FULL_PATIENCE) {
                self.hold(client, true);
            }
            let held = self.shared.state().partitions.held;
            let mut batch = Vec::new();
            let mut bytes = 0;
            let mut wait = if held { IDLE_HELD } else { IDLE };
            // Also after a callback `poll` returns nothing. Then the batch ends early, and the next round finds the rest.
            while let Some(message) = client.poll(wait) {
                wait = Duration::ZERO;
                match message {
                    Ok(message) => {
                        let record = record::copy(&message, &mut topics);
                        bytes += buffer::size(&record);
                        batch.push(record);
                    }
                    Err(NativeError::MessageConsumptionFatal(code)) => {
                        return match client.client().fatal_error() {
                            Some((code, reason)) => End::Failed(code, reason),
                            None => End::Failed(code, code.to_string()),
                        };
                    }
                    // The context was told, too, with the reason.
                    Err(error) => tracing::debug!("Kafka: {error}"),
                }
                if batch.len() >= BATCH_RECORDS || bytes >= BATCH_BYTES {
                    break;
                }
            }
            self.hand_over(client, batch);
            if held && self.shared.buffer.is_drained() {
                self.hold(client, false);
            }
            self.probe(client);
            if Instant::now() >= begin_at && !self.begin(client) {
                begin_at = Instant::now() + BEGIN_PAUSE;
            }
            if looked.elapsed() >= LOOK_EVERY {
                self.look_at_ends(client);
                self.check_topics(client);
                looked = Instant::now();
            }
        }
    }

    /// Pauses or resumes what the runtime has not paused itself.
    fn hold(&self, client: &Client, held: bool) {
        let mut state = self.shared.state();
        if state.partitions.held == held {
            return;
        }
        state.partitions.held = false;
        let running: Vec<TopicPartition> =
            state.partitions.assigned.keys().filter(|p| !state.partitions.is_stopped(p)).cloned().collect();
        state.partitions.held = held;
        pause(client, &running, held);
        tracing::debug!(held, "Kafka: the runtime is busy");
    }

    fn probe(&self, client: &Client) {
        let (mut mended, mut asked) = (false, false);
        for topic in self.shared.health(|health| (None, health.due_probes(&self.topics, Instant::now()))) {
            // Only the consumer's own topics are asked for, and asking creates nothing: allow.auto.create.topics=false.
            let error = match client.fetch_metadata(Some(&topic), PROBE_PATIENCE) {
                Ok(metadata) => metadata.topics().iter().find_map(|t| t.error()).map(Code::from),
                // The broker is away, which says nothing about the topic.
                Err(_) => return,
            };
            mended |= self.shared.health(|health| health.topic(&topic, error));
            asked = true;
        }
        if asked {
            self.shared.health(|health| (None, health.probed()));
        }
        // Otherwise the member would join for the topic with the next refresh of all metadata, half a minute later.
        if mended && let Err(error) = self.subscribe(client) {
            tracing::warn!("Kafka: {error}");
        }
    }

    /// Where paused partitions end: a fetch would tell, but they have none.
    fn look_at_ends(&self, client: &Client) {
        let state = self.shared.state();
        let paused: Vec<_> =
            state.partitions.assigned.keys().filter(|p| state.partitions.is_stopped(p)).cloned().collect();
        drop(state);
        // Until the first failure: with the broker away, each would take its time to fail.
        let end = |partition: TopicPartition| {
            let watermarks = client.fetch_watermarks(&partition.topic, partition.partition, PROBE_PATIENCE);
            watermarks.ok().map(|(_, end)| (partition, end))
        };
        self.shared.metrics.set_ends(paused.into_iter().map_while(end).collect());
    }

    /// The partitions are another's: their records must not be handled here.
    fn let_go(&self, client: &Client) {
        let mut state = self.shared.state();
        let partitions: Vec<TopicPartition> = state.partitions.assigned.keys().cloned().collect();
        state.client = None;
        state.partitions.held = false;
        drop(state);
        client.context().forget(&partitions);
        if !partitions.is_empty() {
            self.shared.buffer.revoke(partitions, RevokeGuard::unguarded());
        }
    }

    /// Closes the client. The runtime's side only uses it under the lock, so this reference is the last one; closing
    /// takes its time here, where nobody waits for it longer than they want to.
    fn retire(&self, client: Arc<Client>) {
        self.shared.state().client = None;
        client.context().retired.store(true, Relaxed);
        drop(client);
    }

    fn rejoin(&self, failures: usize) -> Option<Arc<Client>> {
        let mut pause = Duration::from_millis(500 << failures.saturating_sub(1).min(3));
        loop {
            // Two processes with one id must not wait in step.
            if self.shared.buffer.wait_for_close(pause + jitter()) {
                return None;
            }
            match self.client() {
                Ok(client) => return Some(client),
                // It could be made before; what it lacks now (memory, files) may come back.
                Err(error) => self.shared.health(|health| (health.group(Some(error.to_string())), ())),
            }
            pause = Duration::from_secs(4);
        }
    }
}

/// Up to half a second.
fn jitter() -> Duration {
    Duration::from_millis(u64::from(uuid::Uuid::new_v4().as_bytes()[0]) * 2)
}

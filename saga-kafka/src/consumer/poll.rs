//! The poll thread: takes records from librdkafka, hands them over, and replaces a client that failed for good.

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

/// How long a poll waits for records, and a close for the thread.
const IDLE: Duration = Duration::from_millis(100);
/// The same while everything is paused.
const IDLE_HELD: Duration = Duration::from_millis(20);
/// The largest batch that is handed over.
const BATCH_RECORDS: usize = 500;
const BATCH_BYTES: usize = 4 << 20;
/// How long a full buffer may last before fetching is paused. Pausing discards what was fetched ahead.
const FULL_PATIENCE: Duration = Duration::from_millis(300);
/// Time limit of a question about a topic or a partition.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// How often the ends of paused partitions and the ids of topics are refreshed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Pause between attempts to find a start position.
const BEGIN_PAUSE: Duration = Duration::from_millis(500);
/// So many fatal failures within [`FAILURES_WITHIN`] end the consumer.
const FAILURES: usize = 5;
const FAILURES_WITHIN: Duration = Duration::from_secs(60);

pub(super) struct Thread {
    config: KafkaConfig,
    group: String,
    topics: Vec<String>,
    pub(super) shared: Arc<Shared>,
}

/// Why polling a client ended.
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

    /// Polls until the consumer closes or the client fails for good.
    fn poll(&self, client: &Arc<Client>) -> End {
        let mut topics = record::Topics::default();
        let (mut looked, mut begin_at) = (Instant::now(), Instant::now());
        loop {
            self.shared.watch.turned(Instant::now());
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
            // `poll` returns nothing after a callback too. Then the batch ends early, and the next round takes the
            // rest.
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
                    // The context got the same error with its reason.
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
            if Instant::now() >= begin_at {
                let begun = self.begin(client);
                if let Err(why) = &begun {
                    begin_at = Instant::now() + BEGIN_PAUSE;
                    tracing::debug!("Kafka: where reading begins is not known yet: {why}");
                }
                self.shared.health(|health| (health.begun(begun, Instant::now()), ()));
            }
            if looked.elapsed() >= LOOK_EVERY {
                self.look_at_ends(client);
                self.check_topics(client);
                looked = Instant::now();
            }
        }
    }

    /// Pauses or resumes the partitions that the runtime has not paused itself.
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
            // The question creates no topic: allow.auto.create.topics=false.
            let error = match client.fetch_metadata(Some(&topic), PROBE_PATIENCE) {
                Ok(metadata) => metadata.topics().iter().find_map(|t| t.error()).map(Code::from),
                // The broker is unreachable, which says nothing about the topic.
                Err(_) => return,
            };
            mended |= self.shared.health(|health| health.topic(&topic, error));
            asked = true;
        }
        if asked {
            self.shared.health(|health| (None, health.probed()));
        }
        // Without this the member would take the topic's partitions half a minute later, with the next refresh of all
        // metadata.
        if mended && let Err(error) = self.subscribe(client) {
            tracing::warn!("Kafka: {error}");
        }
    }

    /// Asks for the ends of paused partitions; running ones learn theirs with each fetch.
    fn look_at_ends(&self, client: &Client) {
        let state = self.shared.state();
        let paused: Vec<_> =
            state.partitions.assigned.keys().filter(|p| state.partitions.is_stopped(p)).cloned().collect();
        drop(state);
        // Stops at the first failure: with the broker unreachable, each question would run into its time limit.
        let end = |partition: TopicPartition| {
            let watermarks = client.fetch_watermarks(&partition.topic, partition.partition, PROBE_PATIENCE);
            watermarks.ok().map(|(_, end)| (partition, end))
        };
        self.shared.metrics.set_ends(paused.into_iter().map_while(end).collect());
    }

    /// Releases all partitions: another process owns them, and their records must not be handled here.
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

    /// Closes the client. The runtime's side uses it under the lock only, so this reference is the last one, and
    /// closing may block here.
    fn retire(&self, client: Arc<Client>) {
        self.shared.state().client = None;
        client.context().retired.store(true, Relaxed);
        drop(client);
    }

    fn rejoin(&self, failures: usize) -> Option<Arc<Client>> {
        let mut pause = Duration::from_millis(500 << failures.saturating_sub(1).min(3));
        loop {
            self.shared.watch.turned(Instant::now());
            // Two processes with one id must not rejoin in step.
            if self.shared.buffer.wait_for_close(pause + jitter()) {
                return None;
            }
            match self.client() {
                Ok(client) => return Some(client),
                // Making a client worked before; memory or files may come back.
                Err(error) => self.shared.health(|health| (health.group(Some(error.to_string())), ())),
            }
            pause = Duration::from_secs(4);
        }
    }
}

/// A random time of up to half a second.
fn jitter() -> Duration {
    Duration::from_millis(u64::from(uuid::Uuid::new_v4().as_bytes()[0]) * 2)
}

//! How to reach Kafka: safe defaults for both clients, and any librdkafka property on top of them.

use std::{collections::BTreeMap, fmt};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel, error::KafkaError as NativeError, types::RDKafkaConfRes};

use crate::{
    error::{KafkaError, with_fix},
    properties::{self, Role},
};

/// Environment variables with this prefix name librdkafka properties: `KAFKA_CFG_SECURITY_PROTOCOL` is
/// `security.protocol`.
pub const PROPERTY_PREFIX: &str = "KAFKA_CFG_";

/// For consumer and producer: no surprises, quick recovery.
const COMMON: &[(&str, &str)] = &[
    // A misspelt topic is an error; the broker must not create it.
    ("allow.auto.create.topics", "false"),
    ("socket.keepalive.enable", "true"),
    // Detects a broker that accepts connections and never answers; the default is a minute.
    ("socket.timeout.ms", "10000"),
    ("socket.connection.setup.timeout.ms", "10000"),
    // Reconnects within a second of a broker's return; the default is ten.
    ("reconnect.backoff.max.ms", "1000"),
    // New topics and partitions are noticed within half a minute.
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("log.connection.close", "false"),
    ("enable.metrics.push", "false"),
];

const CONSUMER: &[(&str, &str)] = &[
    // The runtime stores the offset of an event that is done; librdkafka commits stored offsets.
    ("enable.auto.commit", "true"),
    ("auto.commit.interval.ms", "500"),
    ("enable.auto.offset.store", "false"),
    // The default, `largest`, skips what was published before a group's first start.
    ("auto.offset.reset", "earliest"),
    // Partitions that stay with a member keep being processed during a rebalance.
    ("partition.assignment.strategy", "cooperative-sticky"),
    // Members learn of a rebalance with their next heartbeat.
    ("heartbeat.interval.ms", "1000"),
    ("isolation.level", "read_committed"),
    ("check.crcs", "true"),
    // The broker answers as soon as there is a record. A resumed or new partition waits for the fetch that is running.
    ("fetch.wait.max.ms", "100"),
    ("fetch.error.backoff.ms", "100"),
    // The default, a second, stalls a busy partition when the queue is small.
    ("fetch.queue.backoff.ms", "10"),
    // Memory for records that are fetched ahead.
    ("queued.min.messages", "2000"),
    ("queued.max.messages.kbytes", "8192"),
    ("fetch.max.bytes", "8388608"),
    ("receive.message.max.bytes", "33554432"),
    ("statistics.interval.ms", "1000"),
];

/// Other members take over a crashed member's partitions after this time; a static member has it for its restart.
const SESSION_TIMEOUT: &str = "10000";
const SESSION_TIMEOUT_STATIC: &str = "45000";

const PRODUCER: &[(&str, &str)] = &[
    ("acks", "all"),
    ("enable.idempotence", "true"),
    // Java clients' partitioner: a saga's records share a partition, whichever client writes them.
    ("partitioner", "murmur2_random"),
    // No timeout: a record that timed out would be sent again after later ones of its saga. The outbox keeps it until
    // the broker is back.
    ("message.timeout.ms", "0"),
    ("request.timeout.ms", "10000"),
    // The runtime batches already; measurements showed no gain from lingering.
    ("linger.ms", "0"),
    // Room for the largest event plus a dead letter's headers. The topic has a limit of its own.
    ("message.max.bytes", "2097152"),
    // The limit in records is ours (`producer_queue`): librdkafka counts a record until its report has been handled.
    ("queue.buffering.max.messages", "0"),
    ("queue.buffering.max.kbytes", "65536"),
    // A topic that was just created may be unknown to the broker for a moment. After this time a missing one is
    // reported.
    ("topic.metadata.propagation.max.ms", "10000"),
];

const PRODUCER_QUEUE: &str = "queue.buffering.max.messages";
const PRODUCER_QUEUE_KBYTES: &str = "queue.buffering.max.kbytes";
const DEFAULT_PRODUCER_QUEUE: usize = 100_000;

/// Connection settings for Kafka. `Debug` hides secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    bootstrap_servers: String,
    client_id: String,
    instance_id: Option<String>,
    /// By canonical name: the variable or property as the user wrote it, and the value.
    overrides: BTreeMap<String, (String, String)>,
}

impl KafkaConfig {
    /// Settings for the brokers at these addresses (`host:port`, separated by commas), with our defaults.
    pub fn new(bootstrap_servers: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            client_id: "saga".into(),
            instance_id: None,
            overrides: BTreeMap::new(),
        }
    }

    /// Applies every `KAFKA_CFG_<PROPERTY>` of these variables and ignores the others. The caller resolves `*_FILE`
    /// variables: a variable names a property only if its [`property_name`] exists.
    ///
    /// # Errors
    /// When a property does not exist, cannot have its value, or is one that we set ourselves. The error names the
    /// variable.
    pub fn with_variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, KafkaError> {
        for (variable, value) in variables {
            if let Some(suffix) = variable.strip_prefix(PROPERTY_PREFIX) {
                let property = property_name(&variable).unwrap_or_else(|| dotted(suffix));
                self.set(&variable, &property, &value)?;
            }
        }
        Ok(self)
    }

    /// Sets a librdkafka property by its own name, as `KAFKA_CFG_<PROPERTY>` does.
    ///
    /// # Errors
    /// As [`KafkaConfig::with_variables`].
    pub fn with_property(mut self, property: &str, value: &str) -> Result<Self, KafkaError> {
        self.set(property, property, value)?;
        Ok(self)
    }

    /// Sets the client's name in the brokers' logs and quotas; usually the participant's.
    #[must_use]
    pub fn with_client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// Makes the consumer a static member (`SAGA_INSTANCE_ID`): the id is unique in the group and survives a restart. A
    /// restarted process gets its partitions back at once. In exchange, the partitions of a dead one wait for it for
    /// the session timeout (45 s).
    #[must_use]
    pub fn with_instance_id(mut self, instance_id: Option<String>) -> Self {
        self.instance_id = instance_id.filter(|id| !id.is_empty());
        self
    }

    /// The addresses given to [`KafkaConfig::new`].
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    pub(crate) fn instance_id(&self) -> Option<&str> {
        self.instance_id.as_deref()
    }

    /// Sets a known property unless the user has set it.
    pub(crate) fn with_default(mut self, property: &str, value: &str) -> Self {
        let canonical = properties::canonical(property).to_owned();
        self.overrides.entry(canonical).or_insert_with(|| (property.to_owned(), value.to_owned()));
        self
    }

    fn set(&mut self, written: &str, property: &str, value: &str) -> Result<(), KafkaError> {
        let canonical = properties::canonical(property);
        if let Some(instead) = properties::owned(canonical) {
            return Err(KafkaError::OwnedProperty { variable: written.into(), property: property.into(), instead });
        }
        check(written, property, value)?;
        self.overrides.insert(canonical.to_owned(), (written.to_owned(), value.to_owned()));
        Ok(())
    }

    /// The configuration of a member of this group.
    pub(crate) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client(Role::Consumer);
        config.set("group.id", group);
        config
    }

    /// The configuration of a producer, and of the admin client.
    pub(crate) fn producer(&self) -> ClientConfig {
        self.client(Role::Producer)
    }

    /// The most records that a producer queues (`queue.buffering.max.messages`).
    pub(crate) fn producer_queue(&self) -> usize {
        let set = self.overrides.get(PRODUCER_QUEUE).and_then(|(_, value)| value.parse().ok());
        // librdkafka reads zero as no limit.
        set.map_or(DEFAULT_PRODUCER_QUEUE, |max| if max == 0 { usize::MAX } else { max })
    }

    /// The most bytes that a producer queues (`queue.buffering.max.kbytes`).
    pub(crate) fn producer_queue_bytes(&self) -> usize {
        let default = PRODUCER.iter().find(|(name, _)| *name == PRODUCER_QUEUE_KBYTES).map(|(_, value)| *value);
        let set = self.overrides.get(PRODUCER_QUEUE_KBYTES).map(|(_, value)| value.as_str());
        set.or(default)
            .and_then(|kbytes| kbytes.parse::<usize>().ok())
            .map_or(usize::MAX, |kbytes| kbytes.saturating_mul(1024))
    }

    fn client(&self, role: Role) -> ClientConfig {
        let mut config = ClientConfig::new();
        // RUST_LOG filters what is shown.
        config.set_log_level(RDKafkaLogLevel::Info);
        config.set("bootstrap.servers", &self.bootstrap_servers).set("client.id", &self.client_id);
        let defaults = match role {
            Role::Consumer => CONSUMER,
            Role::Producer => PRODUCER,
        };
        for (property, value) in COMMON.iter().chain(defaults) {
            config.set(*property, *value);
        }
        if role == Role::Consumer {
            let session = match self.instance_id() {
                Some(instance_id) => {
                    config.set("group.instance.id", instance_id);
                    SESSION_TIMEOUT_STATIC
                }
                None => SESSION_TIMEOUT,
            };
            config.set("session.timeout.ms", session);
            // In the new protocol (KIP-848) the broker decides these, and the client refuses to start with them.
            if self.overrides.get("group.protocol").is_some_and(|(_, protocol)| protocol == "consumer") {
                for property in ["partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"] {
                    config.remove(property);
                }
            }
        }
        for (property, (_, value)) in &self.overrides {
            if properties::applies(property, role) && property != PRODUCER_QUEUE {
                config.set(property, value);
            }
        }
        config
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let overrides: BTreeMap<&str, &str> = self
            .overrides
            .iter()
            .map(|(property, (_, value))| {
                (property.as_str(), if properties::is_secret(property) { "[hidden]" } else { value.as_str() })
            })
            .collect();
        f.debug_struct("KafkaConfig")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("client_id", &self.client_id)
            .field("instance_id", &self.instance_id)
            .field("overrides", &overrides)
            .finish()
    }
}

/// The librdkafka property that a `KAFKA_CFG_<PROPERTY>` variable names. None when there is no such property:
/// `KAFKA_CFG_SASL_PASSWORD_FILE` names a file with the value of `sasl.password`.
pub fn property_name(variable: &str) -> Option<String> {
    let suffix = variable.strip_prefix(PROPERTY_PREFIX)?;
    // Nearly all of librdkafka's names have dots only.
    [dotted(suffix), suffix.to_ascii_lowercase()].into_iter().find(|name| exists(name))
}

fn dotted(suffix: &str) -> String {
    suffix.to_ascii_lowercase().replace('_', ".")
}

fn exists(property: &str) -> bool {
    // Setting a property is the only way to ask librdkafka whether it exists.
    !matches!(try_set(property, "0"), Err(NativeError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)))
}

fn try_set(property: &str, value: &str) -> Result<(), NativeError> {
    ClientConfig::new().set(property, value).create_native_config().map(drop)
}

fn check(written: &str, property: &str, value: &str) -> Result<(), KafkaError> {
    let invalid = |reason: String| KafkaError::InvalidProperty {
        variable: written.into(),
        property: property.into(),
        // librdkafka's text may quote the value.
        reason: if properties::is_secret(property) {
            "the value is not one it can have".into()
        } else {
            with_fix(reason)
        },
    };
    match try_set(property, value) {
        Ok(()) => Ok(()),
        Err(NativeError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            Err(KafkaError::UnknownProperty { variable: written.into(), property: property.into() })
        }
        // Not the error's own text: that always quotes the value.
        Err(NativeError::ClientConfig(_, reason, ..)) => Err(invalid(reason)),
        Err(error) => Err(invalid(error.to_string())),
    }
}

#[cfg(test)]
mod tests;

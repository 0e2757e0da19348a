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
    // A misspelt topic must fail, not appear.
    ("allow.auto.create.topics", "false"),
    ("socket.keepalive.enable", "true"),
    // A broker that accepts connections and answers nothing is found out after this long, instead of a minute.
    ("socket.timeout.ms", "10000"),
    ("socket.connection.setup.timeout.ms", "10000"),
    // A broker that is back is used within a second, instead of ten.
    ("reconnect.backoff.max.ms", "1000"),
    // Topics and partitions that appear are seen soon.
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("log.connection.close", "false"),
    ("enable.metrics.push", "false"),
];

const CONSUMER: &[(&str, &str)] = &[
    // The runtime stores an offset when the event is done; librdkafka commits what is stored.
    ("enable.auto.commit", "true"),
    ("auto.commit.interval.ms", "500"),
    ("enable.auto.offset.store", "false"),
    // The default, largest, skips what was published before a new group's first start.
    ("auto.offset.reset", "earliest"),
    // Partitions that stay keep being worked on during a rebalance.
    ("partition.assignment.strategy", "cooperative-sticky"),
    // Other members hear of a rebalance with their next heartbeat.
    ("heartbeat.interval.ms", "1000"),
    ("isolation.level", "read_committed"),
    ("check.crcs", "true"),
    // The broker answers as soon as there is a record; a paused or new partition waits for the running fetch.
    ("fetch.wait.max.ms", "100"),
    ("fetch.error.backoff.ms", "100"),
    // With a small queue the default, a second, would stall a busy partition.
    ("fetch.queue.backoff.ms", "10"),
    // Memory: what is fetched ahead, besides the records handed over.
    ("queued.min.messages", "2000"),
    ("queued.max.messages.kbytes", "8192"),
    ("fetch.max.bytes", "8388608"),
    ("receive.message.max.bytes", "33554432"),
    ("statistics.interval.ms", "1000"),
];

/// A crashed member's partitions go to the others after this long; static members get the time for a restart.
const SESSION_TIMEOUT: &str = "10000";
const SESSION_TIMEOUT_STATIC: &str = "45000";

const PRODUCER: &[(&str, &str)] = &[
    ("acks", "all"),
    ("enable.idempotence", "true"),
    // As Java clients have, so that a saga's records share a partition whoever writes them.
    ("partitioner", "murmur2_random"),
    // Never: a record that timed out would be sent again after later ones of its saga. The outbox is the patience.
    ("message.timeout.ms", "0"),
    ("request.timeout.ms", "10000"),
    // The runtime batches already; waiting gained nothing where it was measured.
    ("linger.ms", "0"),
    // Room for the largest event plus a dead letter's headers; what a topic takes is the broker's business.
    ("message.max.bytes", "2097152"),
    // The queue's limit in records is kept by us: librdkafka counts a record until after its report was handled.
    ("queue.buffering.max.messages", "0"),
    ("queue.buffering.max.kbytes", "65536"),
    // A topic that was just created may be unknown to the broker for a moment; a missing one is soon reported.
    ("topic.metadata.propagation.max.ms", "10000"),
];

const PRODUCER_QUEUE: &str = "queue.buffering.max.messages";
const PRODUCER_QUEUE_KBYTES: &str = "queue.buffering.max.kbytes";
const DEFAULT_PRODUCER_QUEUE: usize = 100_000;

/// How to reach Kafka. Secrets are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    bootstrap_servers: String,
    client_id: String,
    instance_id: Option<String>,
    /// By canonical name: the variable or property as the user wrote it, and the value.
    overrides: BTreeMap<String, (String, String)>,
}

impl KafkaConfig {
    /// The brokers at these addresses (`host:port`, separated by commas), with our defaults.
    pub fn new(bootstrap_servers: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            client_id: "saga".into(),
            instance_id: None,
            overrides: BTreeMap::new(),
        }
    }

    /// Takes every `KAFKA_CFG_<PROPERTY>` of these variables; the others are passed over. Values from `*_FILE`
    /// variables are resolved by the caller: only a variable whose [`property_name`] exists is a property.
    ///
    /// # Errors
    /// When a property does not exist, has a value that it cannot have, or is one that we must set; names the variable.
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

    /// The name brokers see in their logs and quotas; the participant's name is a good one.
    #[must_use]
    pub fn with_client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// `SAGA_INSTANCE_ID`: a name of this process, unique in its group and the same after a restart. A restarted
    /// process takes its partitions back at once; in exchange, a dead one's partitions wait for it for the session
    /// timeout (45 s).
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

    /// Like [`KafkaConfig::with_property`], for values that are known to be good and that a user may still override.
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

    /// How many records a producer holds at most (`queue.buffering.max.messages`).
    pub(crate) fn producer_queue(&self) -> usize {
        let set = self.overrides.get(PRODUCER_QUEUE).and_then(|(_, value)| value.parse().ok());
        // To librdkafka zero means no limit.
        set.map_or(DEFAULT_PRODUCER_QUEUE, |max| if max == 0 { usize::MAX } else { max })
    }

    /// How many bytes of them (`queue.buffering.max.kbytes`).
    pub(crate) fn producer_queue_bytes(&self) -> usize {
        let default = PRODUCER.iter().find(|(name, _)| *name == PRODUCER_QUEUE_KBYTES).map(|(_, value)| *value);
        let set = self.overrides.get(PRODUCER_QUEUE_KBYTES).map(|(_, value)| value.as_str());
        set.or(default)
            .and_then(|kbytes| kbytes.parse::<usize>().ok())
            .map_or(usize::MAX, |kbytes| kbytes.saturating_mul(1024))
    }

    fn client(&self, role: Role) -> ClientConfig {
        let mut config = ClientConfig::new();
        // What is worth showing is decided by RUST_LOG, not here.
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
            // The broker decides these in the new protocol (KIP-848), and the client refuses to start with them.
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

/// The librdkafka property that a `KAFKA_CFG_<PROPERTY>` variable names; none when there is no such property, as for
/// `KAFKA_CFG_SASL_PASSWORD_FILE`, which names a file with the value of `sasl.password`.
pub fn property_name(variable: &str) -> Option<String> {
    let suffix = variable.strip_prefix(PROPERTY_PREFIX)?;
    // All but a few of librdkafka's names have dots only.
    [dotted(suffix), suffix.to_ascii_lowercase()].into_iter().find(|name| exists(name))
}

fn dotted(suffix: &str) -> String {
    suffix.to_ascii_lowercase().replace('_', ".")
}

fn exists(property: &str) -> bool {
    // Setting is the only question that librdkafka answers for all of its properties.
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

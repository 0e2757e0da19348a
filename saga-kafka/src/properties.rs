//! librdkafka's properties: which client they belong to, which are ours, which hold secrets.
//!
//! Source: librdkafka 2.12.1, CONFIGURATION.md.

/// The client a configuration is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Consumer,
    Producer,
}

/// Properties that a producer ignores, with a warning at every start.
const CONSUMER_ONLY: &[&str] = &[
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "check.crcs",
    "consume.callback.max.messages",
    "coordinator.query.interval.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.poll.interval.ms",
    "offset.store.method",
    "offset.store.path",
    "offset.store.sync.interval.ms",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "session.timeout.ms",
];

/// Properties that a consumer ignores, with a warning at every start.
const PRODUCER_ONLY: &[&str] = &[
    "acks",
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "compression.level",
    "delivery.report.only.error",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "linger.ms",
    "message.send.max.retries",
    "message.timeout.ms",
    "partitioner",
    "produce.offset.report",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queuing.strategy",
    "request.timeout.ms",
    "sticky.partitioning.linger.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// Second names of properties. Resolving them keeps our default and a user's value from being set in random order.
const ALIASES: &[(&str, &str)] = &[
    ("metadata.broker.list", "bootstrap.servers"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("retries", "message.send.max.retries"),
    ("compression.type", "compression.codec"),
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("auto.commit.enable", "enable.auto.commit"),
];

/// Properties that the transport's guarantees depend on, each with what to do instead.
const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "set KAFKA_BOOTSTRAP_SERVERS"),
    ("group.id", "the group is the participant's name"),
    ("group.instance.id", "set SAGA_INSTANCE_ID"),
    ("enable.auto.commit", "offsets are committed when their events are done"),
    ("enable.auto.offset.store", "offsets are stored when their events are done"),
    ("acks", "an event counts as sent when all in-sync replicas have it"),
    ("enable.idempotence", "retries would reorder a saga's events without it"),
    ("partitioner", "all producers of a saga must agree on its partition: murmur2_random"),
    ("queuing.strategy", "a saga's events leave in their order"),
    ("transactional.id", "the barrier and the outbox do without Kafka's transactions"),
    ("delivery.report.only.error", "an event is marked as sent by its acknowledgement"),
    ("statistics.interval.ms", "readiness and lag are read from the statistics"),
    ("log.queue", "logs go where RUST_LOG says"),
    ("enabled_events", "the client needs them all"),
];

/// A property whose name contains one of these is a secret.
const SECRETS: &[&str] =
    &["password", "passphrase", "secret", "pem", "key", "token", "oauth", "jwt", "jaas", "credential", "plugin"];

/// The name of a property after resolving aliases.
pub(crate) fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, canonical)| canonical)
}

/// Why a user may not set this property.
pub(crate) fn owned(canonical: &str) -> Option<&'static str> {
    OURS.iter().find(|(name, _)| *name == canonical).map(|(_, instead)| *instead)
}

pub(crate) fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|secret| name.contains(secret))
}

pub(crate) fn applies(canonical: &str, role: Role) -> bool {
    match role {
        Role::Consumer => !PRODUCER_ONLY.contains(&canonical),
        Role::Producer => !CONSUMER_ONLY.contains(&canonical),
    }
}

//! librdkafka's own log lines, handed to `tracing`.

use rdkafka::config::RDKafkaLogLevel;

/// What librdkafka says of connections that break, by its own names for what a line is about. A broker's restart makes
/// hundreds of these, and the consumer says `Waiting` once.
const CONNECTIONS: &[&str] = &["FAIL", "ERROR", "REQTMOUT", "CONNECT", "PROTOERR", "SASL", "LEADER"];

/// Most of what matters to an operator is reported by us in our words; what only librdkafka knows is a WARN here as well.
/// The rest is for looking closer, with `RUST_LOG=librdkafka=debug`. The configuration is never among them.
pub(crate) fn line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning if CONNECTIONS.contains(&facility) => {
            tracing::info!(target: "librdkafka", facility, "{message}")
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::debug!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Debug => tracing::trace!(target: "librdkafka", facility, "{message}"),
    }
}

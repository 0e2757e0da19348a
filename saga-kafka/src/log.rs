//! librdkafka's log lines, written through `tracing`.

use rdkafka::config::RDKafkaLogLevel;

/// librdkafka's facilities for broken connections. A broker's restart makes hundreds of these lines; the consumer
/// reports `Waiting` once.
const CONNECTIONS: &[&str] = &["FAIL", "ERROR", "REQTMOUT", "CONNECT", "PROTOERR", "SASL", "LEADER"];

/// The consumer and the producer report most failures themselves; what only librdkafka knows is a WARN here too. The
/// rest is for debugging with `RUST_LOG=librdkafka=debug`. The configuration is never logged.
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

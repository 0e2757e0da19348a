//! librdkafka's own log lines, handed to `tracing`.

use rdkafka::config::RDKafkaLogLevel;

/// Everything a client has to tell that matters to an operator is reported by us in our words; these lines are for
/// looking closer, with `RUST_LOG=librdkafka=debug`. The configuration is never among them.
pub(crate) fn line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        // FAIL and ERROR are what a broker restart looks like; the consumer says `Waiting`.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::info!(target: "librdkafka", facility, "{message}")
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::debug!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Debug => tracing::trace!(target: "librdkafka", facility, "{message}"),
    }
}

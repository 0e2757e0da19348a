//! Why topics cannot be read.

use crate::KafkaError;

/// Why topics cannot be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReadError {
    /// No broker answers: try again, or look at the address.
    #[error("no Kafka broker answers at {bootstrap}, which is what KAFKA_BOOTSTRAP_SERVERS says: {reason}")]
    Unreachable {
        /// The addresses that were tried.
        bootstrap: String,
        /// What librdkafka says.
        reason: String,
    },
    /// The right to read is missing.
    #[error("topic {topic} may not be read: grant Describe and Read on it")]
    NotAllowed {
        /// Its name.
        topic: String,
    },
    /// The broker answers, and refuses.
    #[error("topic {topic} cannot be read: {reason}")]
    Refused {
        /// Its name.
        topic: String,
        /// What the broker says.
        reason: String,
    },
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] KafkaError),
}

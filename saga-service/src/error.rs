//! Why a service does not start, or ends by itself.

use std::io;

use saga_core::graph::Finding;
use saga_kafka::{KafkaError, TopicsError};
use saga_store::{ConnectError, Misconfigured};

/// Why a service ended by itself. Each message is one line that names what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// A setting has a value that it cannot have.
    #[error("{variable}: {message}")]
    Config {
        /// The variable, as it is written in the environment.
        variable: String,
        /// What is wrong, and what would be right; without the value, which may be a secret.
        message: String,
    },
    /// The service cannot listen on its address.
    #[error("HTTP_ADDR: cannot listen on {addr}: {reason}; set HTTP_ADDR to a free address of this machine")]
    Listen {
        /// The address.
        addr: String,
        /// What the operating system says.
        reason: io::Error,
    },
    /// The database settings are wrong, or a migration failed.
    #[error("DATABASE_URL: {0}")]
    Database(ConnectError),
    /// The Kafka settings contradict each other.
    #[error("KAFKA_CFG_*: {0}")]
    Kafka(#[from] KafkaError),
    /// The broker refuses what is needed.
    #[error("{0}; see SAGA_TOPIC_PARTITIONS and SAGA_TOPIC_REPLICATION_FACTOR, or have the topic created")]
    Topics(TopicsError),
    /// The runtime cannot go on.
    #[error("{0}")]
    Runtime(String),
    /// The participant's declaration cannot work.
    #[error("the participant cannot work: {}", .0.iter().map(|finding| finding.message.as_str()).collect::<Vec<_>>().join("; "))]
    Declaration(Vec<Finding>),
    /// The service and its participant have different names.
    #[error("the service is named {service}, and its participant {participant}: give both one name")]
    Name {
        /// The service's.
        service: &'static str,
        /// The participant's.
        participant: &'static str,
    },
    /// The operating system refused something.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

impl ServiceError {
    /// A setting that cannot work, for [`Service::built`](crate::Service::built).
    pub fn config(variable: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config { variable: variable.into(), message: message.into() }
    }

    /// The process's exit code: 2 for wrong settings, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config { .. } | Self::Kafka(_) | Self::Declaration(_) | Self::Name { .. } => 2,
            _ => 1,
        }
    }
}

impl From<Misconfigured> for ServiceError {
    fn from(error: Misconfigured) -> Self {
        Self::Database(ConnectError::Misconfigured(error))
    }
}

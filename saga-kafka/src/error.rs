//! Errors of a configuration, or of a client made from it.

/// Why a client could not be made. Trying again does not help; each message names what to change.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KafkaError {
    /// librdkafka has no such property.
    #[error("{variable}: librdkafka has no property {property}; its names are listed in librdkafka's CONFIGURATION.md")]
    UnknownProperty {
        /// The variable, or the property, as it was written.
        variable: String,
        /// The property it stands for.
        property: String,
    },
    /// The property cannot have this value.
    #[error("{variable}: {reason} (property {property})")]
    InvalidProperty {
        /// The variable, or the property, as it was written.
        variable: String,
        /// The property it stands for.
        property: String,
        /// What librdkafka says.
        reason: String,
    },
    /// The transport's guarantees depend on this property.
    #[error("{variable}: {property} cannot be set; {instead}")]
    OwnedProperty {
        /// The variable, or the property, as it was written.
        variable: String,
        /// The property it stands for.
        property: String,
        /// Why, or what to set instead.
        instead: &'static str,
    },
    /// The properties contradict each other, or ask for what this build lacks.
    #[error("the Kafka client does not start: {0}")]
    Client(String),
}

impl KafkaError {
    pub(crate) fn client(error: &rdkafka::error::KafkaError) -> Self {
        use rdkafka::error::KafkaError as Native;
        let reason = match error {
            // The error's own text quotes the value.
            Native::ClientConfig(_, reason, property, _) => format!("{property}: {reason}"),
            Native::ClientCreation(reason) => reason.clone(),
            other => other.to_string(),
        };
        Self::Client(with_fix(reason))
    }
}

/// librdkafka's reason, with advice where the build lacks a feature.
pub(crate) fn with_fix(reason: String) -> String {
    if reason.to_lowercase().contains("openssl") || reason.contains("not supported in this build") {
        format!("{reason}; build with the feature `tls` of saga-kafka")
    } else {
        reason
    }
}

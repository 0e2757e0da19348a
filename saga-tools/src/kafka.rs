//! How to reach the broker: the flags and variables that every command with a broker has.

use std::{env, fs, io, str::FromStr};

use clap::Args;
use saga_core::Namespace;
use saga_kafka::{KafkaConfig, KafkaError, PROPERTY_PREFIX, bootstrap_servers, property_name};

const DEFAULT_SERVERS: &str = "localhost:9092";
const FILE_SUFFIX: &str = "_FILE";

/// Where the broker is, and any librdkafka property.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArgs {
    /// The Kafka brokers to ask first
    #[arg(long, alias = "kafka-bootstrap-servers", env = "KAFKA_BOOTSTRAP_SERVERS", hide_env_values = true)]
    #[arg(value_name = "HOST:PORT,..", default_value = DEFAULT_SERVERS, value_parser = servers)]
    bootstrap_servers: String,
    /// What stands before the names of the flow's topics and groups, as its services have it [default: none]
    #[arg(long, env = "SAGA_NAMESPACE", hide_env_values = true, value_name = "NAME")]
    #[arg(default_value = "", hide_default_value = true, value_parser = Namespace::from_str)]
    namespace: Namespace,
    /// A librdkafka property, as often as needed; KAFKA_CFG_... does the same (KAFKA_CFG_SECURITY_PROTOCOL is
    /// security.protocol), and KAFKA_CFG_..._FILE names a file with the value
    #[arg(long, value_name = "PROPERTY=VALUE")]
    kafka_cfg: Vec<String>,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KafkaArgsError {
    /// Not a property, or not a value that it can have.
    #[error(transparent)]
    Property(#[from] KafkaError),
    /// A file that a variable names cannot be read.
    #[error("{variable}: cannot read {path}")]
    File {
        /// The variable.
        variable: String,
        /// What it names.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Not quoted: it may hold a password.
    #[error("--kafka-cfg: write property=value, such as security.protocol=ssl")]
    Flag,
}

impl KafkaArgs {
    /// The flow's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The configuration of a client. A flag wins over a variable.
    ///
    /// # Errors
    /// When a property cannot have its value, or a file with one cannot be read.
    pub fn config(&self) -> Result<KafkaConfig, KafkaArgsError> {
        let variables = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, value)| name.starts_with(PROPERTY_PREFIX) && !value.is_empty())
            .map(from_file)
            .collect::<Result<Vec<_>, _>>()?;
        let mut config =
            KafkaConfig::new(&self.bootstrap_servers).with_client_id("saga-cli").with_variables(variables)?;
        for flag in &self.kafka_cfg {
            let (property, value) = flag.split_once('=').ok_or(KafkaArgsError::Flag)?;
            config = config.with_property(property.trim(), value)?;
        }
        Ok(config)
    }
}

/// A variable that is set to nothing counts as not set.
fn servers(text: &str) -> Result<String, String> {
    bootstrap_servers(if text.is_empty() { DEFAULT_SERVERS } else { text })
}

/// Replaces a variable that names a file by one that has the file's value.
fn from_file((name, value): (String, String)) -> Result<(String, String), KafkaArgsError> {
    match name.strip_suffix(FILE_SUFFIX) {
        Some(plain) if property_name(&name).is_none() => {
            let text = fs::read_to_string(&value).map_err(|cause| KafkaArgsError::File {
                variable: name.clone(),
                path: value.clone(),
                cause,
            })?;
            Ok((plain.to_owned(), text.trim_end_matches(['\n', '\r']).to_owned()))
        }
        _ => Ok((name, value)),
    }
}

//! The broker's address and settings: flags and variables shared by all commands that use Kafka.

use std::{env, fs, io, str::FromStr};

use clap::Args;
use saga_core::Namespace;
use saga_kafka::{KafkaConfig, KafkaError, PROPERTY_PREFIX, bootstrap_servers, property_name};

const DEFAULT_SERVERS: &str = "localhost:9092";
const FILE_SUFFIX: &str = "_FILE";

/// The broker's address and any librdkafka property.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArgs {
    /// The Kafka brokers to contact first
    #[arg(long, alias = "kafka-bootstrap-servers", env = "KAFKA_BOOTSTRAP_SERVERS", hide_env_values = true)]
    #[arg(value_name = "HOST:PORT,..", default_value = DEFAULT_SERVERS, value_parser = servers)]
    bootstrap_servers: String,
    /// The namespace: a prefix of the flow's topics and groups, as its services use it [default: none]
    #[arg(long, env = "SAGA_NAMESPACE", hide_env_values = true, value_name = "NAME")]
    #[arg(default_value = "", hide_default_value = true, value_parser = Namespace::from_str)]
    namespace: Namespace,
    /// A librdkafka property; repeatable. KAFKA_CFG_... sets one as well (KAFKA_CFG_SECURITY_PROTOCOL is
    /// security.protocol), and KAFKA_CFG_..._FILE names a file that holds the value
    #[arg(long, value_name = "PROPERTY=VALUE")]
    kafka_cfg: Vec<String>,
}

/// An invalid setting.
#[derive(Debug, thiserror::Error)]
pub enum KafkaArgsError {
    /// An unknown property or an invalid value.
    #[error(transparent)]
    Property(#[from] KafkaError),
    /// A file named by a variable cannot be read.
    #[error("{variable}: cannot read {path}")]
    File {
        /// The variable.
        variable: String,
        /// The file.
        path: String,
        /// The cause.
        #[source]
        cause: io::Error,
    },
    /// The value is not quoted: it may hold a password.
    #[error("--kafka-cfg: write property=value, such as security.protocol=ssl")]
    Flag,
}

impl KafkaArgs {
    /// The flow's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The configuration of a client. Flags take precedence over variables.
    ///
    /// # Errors
    /// When a property is invalid, or a file cannot be read.
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

/// An empty variable counts as unset.
fn servers(text: &str) -> Result<String, String> {
    bootstrap_servers(if text.is_empty() { DEFAULT_SERVERS } else { text })
}

/// Replaces a variable that names a file with one that holds the file's content.
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

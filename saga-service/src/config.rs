//! A service's settings: from flags, variables and files, checked before anything starts.

mod address;
mod cli;
mod duration;
mod fault;
mod http;
mod kafka;
mod topics;
mod trace;

use std::{fmt, time::Duration};

use saga_core::Namespace;
use saga_kafka::KafkaConfig;
use saga_store::DatabaseUrl;

pub use address::HttpAddr;
pub use cli::Parsed;
pub(crate) use cli::UNUSED_DATABASE;
pub use duration::duration;
pub use fault::{ConfigError, Stop};
pub use http::HttpConfig;
pub use topics::TopicConfig;
pub(crate) use trace::Export;
pub use trace::TraceConfig;

/// Everything that [`Service::run_until`](crate::Service::run_until) needs. `Debug` hides secrets.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config<A> {
    /// `HTTP_ADDR`: where to listen.
    pub http_addr: HttpAddr,
    /// `HTTP_*`: limits of HTTP requests.
    pub http: HttpConfig,
    /// `SHUTDOWN_GRACE`: how long a service that was told to stop still answers, unready.
    pub shutdown_grace: Duration,
    /// `SAGA_NAMESPACE`: the prefix of topics, groups and schemas.
    pub namespace: Namespace,
    /// `DATABASE_URL`.
    pub database_url: DatabaseUrl,
    /// `KAFKA_BOOTSTRAP_SERVERS`, `KAFKA_CFG_*`, `SAGA_INSTANCE_ID`.
    pub kafka: KafkaConfig,
    /// `SAGA_TOPIC_*`: how missing topics are created.
    pub topics: TopicConfig,
    /// The standard `OTEL_*`.
    pub trace: TraceConfig,
    /// The service's own settings.
    pub args: A,
}

impl<A> Config<A> {
    /// These settings and defaults for the rest; no spans are exported.
    pub fn new(http_addr: HttpAddr, database_url: DatabaseUrl, kafka: KafkaConfig, args: A) -> Self {
        Self {
            http_addr,
            http: HttpConfig::default(),
            shutdown_grace: Duration::ZERO,
            namespace: Namespace::default(),
            database_url,
            kafka,
            topics: TopicConfig::default(),
            trace: TraceConfig::default(),
            args,
        }
    }
}

impl<A: fmt::Debug> Config<A> {
    /// Logs the settings that are in effect.
    pub(crate) fn log(&self) {
        tracing::info!(
            http_addr = %self.http_addr,
            http = ?self.http,
            shutdown_grace = ?self.shutdown_grace,
            namespace = %self.namespace,
            database_url = %self.database_url,
            kafka = ?self.kafka,
            topics = ?self.topics,
            traces = ?self.trace,
            args = ?self.args,
            "configuration"
        );
        for warning in &self.trace.warnings {
            tracing::warn!("{warning}");
        }
    }
}

impl<A: fmt::Debug> fmt::Debug for Config<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("http_addr", &self.http_addr)
            .field("http", &self.http)
            .field("shutdown_grace", &self.shutdown_grace)
            .field("namespace", &self.namespace)
            .field("database_url", &self.database_url)
            .field("kafka", &self.kafka)
            .field("topics", &self.topics)
            .field("trace", &self.trace)
            .field("args", &self.args)
            .finish()
    }
}

#[cfg(test)]
mod tests;

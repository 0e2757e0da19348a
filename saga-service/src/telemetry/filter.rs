//! What is logged, and how it is written.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// How a process logs.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `RUST_LOG`.
    pub filter: Filter,
    /// `LOG_FORMAT`.
    pub format: LogFormat,
}

/// `RUST_LOG`: which log lines are written, as `tracing-subscriber` reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(pub(super) String);

impl Filter {
    /// What is worth an operator's attention. A broker that is away is reported once, by readiness and in one line; what the
    /// Kafka client says about each attempt is for looking closer.
    pub const DEFAULT: &str = "info,librdkafka=warn,saga_kafka::producer=warn";

    /// Checks the text.
    ///
    /// # Errors
    /// When it is not a filter.
    pub fn parse(text: &str) -> Result<Self, String> {
        match EnvFilter::builder().parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err("must be a level (error, warn, info, debug, trace, off) or levels by target, such as \
                 info,saga_core=debug"
                .to_owned()),
        }
    }
}

/// `LOG_FORMAT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// Lines for people.
    Pretty,
}

impl LogFormat {
    /// Reads `json` or `pretty`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            _ => Err("must be json or pretty".to_owned()),
        }
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

//! Logging: one subscriber per process, to standard error, as text for people or as JSON for machines.

use std::{io::IsTerminal, panic, str::FromStr};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

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
pub struct Filter(String);

impl Filter {
    /// What is worth an operator's attention. A broker that is away is told once, by readiness and in one line; what the
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

/// What must be brought to an end before the process ends.
#[must_use = "call shutdown at the end, so that nothing is lost"]
#[derive(Debug)]
pub struct Telemetry(());

impl Telemetry {
    /// Writes what is still buffered.
    pub fn shutdown(self) {}
}

/// Sets the process' subscriber, and sends panics there too. Call it once, in `main`.
///
/// A subscriber that somebody set before stays.
pub fn init(config: &LogConfig) -> Telemetry {
    let terminal = std::io::stderr().is_terminal();
    let filter = EnvFilter::new(&config.filter.0);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !terminal,
    };
    let set = if json {
        let lines = lines.json().flatten_event(true).with_current_span(true).with_span_list(false);
        tracing_subscriber::registry().with(filter).with(lines).try_init()
    } else {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        tracing_subscriber::registry().with(filter).with(lines.with_ansi(colour)).try_init()
    };
    if set.is_ok() {
        panic::set_hook(Box::new(log_panic));
    }
    Telemetry(())
}

/// One line like every other, so that a collector of logs sees a panic as one event.
fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("panicked");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(location, thread = thread.name().unwrap_or("unnamed"), "panicked: {message}");
}

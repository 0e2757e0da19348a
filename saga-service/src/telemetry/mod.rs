//! Logs, to standard error, as text for people or as JSON for machines; traces, to a collector.

mod filter;
mod json_lines;
mod otlp;
mod traces;

use std::{io::IsTerminal, panic};

use tracing_subscriber::{
    EnvFilter,
    fmt::{self, format::JsonFields},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

pub use filter::{Filter, LogConfig, LogFormat};
pub use otlp::OtlpTracer;
pub(crate) use otlp::{Sampling, SpanCounters};
pub(crate) use traces::Traces;

use json_lines::JsonLines;

/// What must be brought to an end before the process ends.
#[must_use = "call shutdown at the end, so that nothing is lost"]
#[derive(Debug)]
pub struct Telemetry(());

impl Telemetry {
    /// Writes what is still buffered. Spans are a service's own: see [`run()`](crate::run()).
    pub fn shutdown(self) {}
}

/// Sets the process' subscriber, and sends panics there too. Call it once, in `main`.
///
/// A subscriber that somebody set before stays.
pub fn init(config: &LogConfig) -> Telemetry {
    let terminal = std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::registry().with(EnvFilter::new(&config.filter.0));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !terminal,
    };
    let set = if json {
        let lines = lines.fmt_fields(JsonFields::new()).event_format(JsonLines).with_ansi(false);
        subscriber.with(lines).try_init()
    } else {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        subscriber.with(lines.with_ansi(colour)).try_init()
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

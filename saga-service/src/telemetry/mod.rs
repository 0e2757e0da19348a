//! Logs, to standard error, as text for people or as JSON for machines; traces, to a collector.
//!
//! # Your own spans
//!
//! Spans of `tracing` that a handler or an effect opens, at the level INFO and above, are in the saga's trace:
//!
//! ```
//! use saga_core::{Event, StepError, handler::Call};
//!
//! # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Event)]
//! # #[event(name = "order.created", topic = "order.events", saga = "order_id")]
//! # struct OrderCreated { order_id: uuid::Uuid, currency: String }
//! #[tracing::instrument(skip_all, fields(currency = order.currency))]
//! async fn convert(order: &OrderCreated) -> Result<u64, StepError> {
//!     # Ok(0)
//! }
//!
//! /// `convert` is exported below the span of this call.
//! async fn charge(_: &Call, order: &OrderCreated) -> Result<u64, StepError> {
//!     convert(order).await
//! }
//! ```
//!
//! | opened in | exported | when |
//! |---|---|---|
//! | a handler of one event | below that event's `transaction` span | its transaction commits; of one that is redone, only the attempt that committed |
//! | a set-based handler, for several events | in a trace of their own, below `handle <step>`, linked to and from the `transaction` span of each | likewise |
//! | an effect | below the `effect` span of the call | the call ends |
//!
//! Events (`tracing::info!`) inside such a span are exported with it, so the rule for both is that of every trace: no data of
//! persons. A trace that is not sampled has none of them. What `RUST_LOG` says is about lines only. One attempt keeps 128 spans;
//! more are counted in `saga_spans_lost_total`. Where something else sets the process' subscriber, it needs the layer
//! [`user_spans`].

mod filter;
mod json_lines;
mod log_writer;
mod otlp;
mod traces;

use std::{
    io::{self, IsTerminal, Write},
    panic,
    time::Duration,
};

use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::{self, format::JsonFields},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

pub use filter::{Filter, LogConfig, LogFormat};
pub use log_writer::LogWriter;
pub(crate) use log_writer::dropped_lines;
pub use otlp::OtlpTracer;
pub use otlp::user_spans::user_spans;
pub(crate) use otlp::{Sampling, SpanCounters};
pub(crate) use traces::Traces;

use json_lines::JsonLines;

/// For what is logged in the last moments: a reader that is alive has read it by then, and no other is waited for.
const FLUSH: Duration = Duration::from_millis(250);

/// The process' log, which is written by a thread of its own.
#[must_use = "flush it at the end, so that nothing is lost"]
#[derive(Clone, Debug)]
pub struct Telemetry(LogWriter);

impl Telemetry {
    /// Gives what is logged a moment to be written. Spans are a service's own: see [`Service::run_until`](crate::Service::run_until).
    pub fn flush(&self) {
        // A reader that does not read is not waited for.
        let _ = self.0.flush(FLUSH);
    }

    /// A line for people, among those of the log.
    pub(crate) fn say(&self, line: &str) {
        // It never fails.
        let _ = self.0.clone().write_all(format!("{line}\n").as_bytes());
    }
}

/// Sets the process' subscriber, and sends panics there too. Call it once, in `main`.
///
/// A subscriber that was set before stays.
///
/// # Errors
/// When there is no thread for it.
pub fn init(config: &LogConfig) -> io::Result<Telemetry> {
    let terminal = io::stderr().is_terminal();
    let subscriber = tracing_subscriber::registry().with(user_spans());
    // Of lines alone: a span is exported also when it is not logged.
    let filter = EnvFilter::new(&config.filter.0);
    let writer = LogWriter::stderr()?;
    let telemetry = Telemetry(writer.clone());
    let lines = fmt::layer().with_writer(move || writer.clone());
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !terminal,
    };
    let set = if json {
        let lines = lines.fmt_fields(JsonFields::new()).event_format(JsonLines).with_ansi(false);
        subscriber.with(lines.with_filter(filter)).try_init()
    } else {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        subscriber.with(lines.with_ansi(colour).with_filter(filter)).try_init()
    };
    if set.is_ok() {
        panic::set_hook(Box::new(log_panic));
    }
    Ok(telemetry)
}

/// One line like every other, so that a collector of logs sees a panic as one event.
fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("panicked");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(location, thread = thread.name().unwrap_or("unnamed"), "panicked: {message}");
}

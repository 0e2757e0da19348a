//! The log of the demo's services: a file, or standard error when `RUST_LOG` is set.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use saga_service::telemetry::LogWriter;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

const VARIABLE: &str = "RUST_LOG";
/// Log lines shown after a failure.
const LAST_LINES: usize = 15;
/// How long to wait at the end for a slow reader of standard error.
const PATIENCE: Duration = Duration::from_millis(250);

/// Whether the log goes to standard error.
pub(crate) fn is_on_standard_error() -> bool {
    env::var_os(VARIABLE).is_some_and(|filter| !filter.is_empty())
}

/// The open log. Dropping it writes the remaining lines.
pub(crate) struct Log(Option<LogWriter>);

/// Starts logging to standard error if `RUST_LOG` is set, otherwise to the file.
pub(crate) fn start(file: &Path) -> io::Result<Log> {
    let (set, writer) = if is_on_standard_error() {
        let writer = LogWriter::stderr()?;
        let lines = writer.clone();
        let lines = fmt::layer().with_writer(move || lines.clone()).with_ansi(false);
        let set = tracing_subscriber::registry().with(EnvFilter::from_env(VARIABLE)).with(lines).try_init();
        (set, Some(writer))
    } else {
        let lines = fmt::layer().with_writer(Mutex::new(fs::File::create(file)?)).with_ansi(false);
        (tracing_subscriber::registry().with(EnvFilter::new("info")).with(lines).try_init(), None)
    };
    set.map(|()| Log(writer)).map_err(io::Error::other)
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(writer) = &self.0 {
            // A slow reader may lose the last lines.
            let _ = writer.flush(PATIENCE);
        }
    }
}

/// The last warnings and errors in the log.
pub(crate) fn last_problems(file: &PathBuf) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let is_trouble = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
    let lines: Vec<String> = text.lines().filter(is_trouble).map(str::to_owned).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].to_vec()
}

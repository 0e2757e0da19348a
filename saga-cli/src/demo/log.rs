//! The log of everything that runs in the demo: to a file that is shown when something goes wrong, or where `RUST_LOG` asks.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

const VARIABLE: &str = "RUST_LOG";
/// Of a log that is shown.
const LAST_LINES: usize = 15;

/// Whether somebody asked for the log to be on standard error.
pub(crate) fn is_wanted() -> bool {
    env::var_os(VARIABLE).is_some_and(|filter| !filter.is_empty())
}

/// Starts logging: to standard error when `RUST_LOG` is set, otherwise to the file.
pub(crate) fn start(file: &Path) -> io::Result<()> {
    let set = if is_wanted() {
        let lines = fmt::layer().with_writer(io::stderr).with_ansi(false);
        tracing_subscriber::registry().with(EnvFilter::from_env(VARIABLE)).with(lines).try_init()
    } else {
        let lines = fmt::layer().with_writer(Mutex::new(fs::File::create(file)?)).with_ansi(false);
        tracing_subscriber::registry().with(EnvFilter::new("info")).with(lines).try_init()
    };
    set.map_err(io::Error::other)
}

/// The last warnings and errors of the log.
pub(crate) fn troubles(file: &PathBuf) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let is_trouble = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
    let lines: Vec<String> = text.lines().filter(is_trouble).map(str::to_owned).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].to_vec()
}

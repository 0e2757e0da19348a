//! The process that removes what this one has made, after it has ended: see `tests/src/main.rs`.
//!
//! A static is never dropped, and a killed process drops nothing. The other one notices the end of its input in any case.

use std::{
    fmt::Display,
    io::Write,
    os::unix::process::CommandExt,
    process::{ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};

use super::service::binary;

static INPUT: Mutex<Option<ChildStdin>> = Mutex::new(None);

/// Has this removed when the process has ended: a `process` by its id, a `kafka` of `scripts/kafka` by its port, a
/// `folder`, or a `database` by its server's URL and its name.
///
/// # Errors
/// When the process that removes it does not start.
pub fn register(kind: &str, what: impl Display) -> Result<()> {
    write("+", kind, &what)
}

/// Takes back what was [registered](register).
///
/// # Errors
/// As [`register`].
pub fn forget(kind: &str, what: impl Display) -> Result<()> {
    write("-", kind, &what)
}

fn write(sign: &str, kind: &str, what: &dyn Display) -> Result<()> {
    let mut input = INPUT.lock().unwrap_or_else(PoisonError::into_inner);
    if input.is_none() {
        *input = Some(start()?);
    }
    let input = input.as_mut().context("no cleanup process")?;
    writeln!(input, "{sign} {kind} {what}").context("the cleanup process has gone")
}

fn start() -> Result<ChildStdin> {
    let mut cleanup = Command::new(binary("cleanup")?);
    // Ctrl-C ends the tests, not the process that cleans up after them; and it holds no output that others wait for.
    cleanup.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let cleanup = cleanup.spawn().context("the cleanup process does not start")?;
    cleanup.stdin.context("the cleanup process has no input")
}

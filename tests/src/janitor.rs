//! The process that clears up after this one: it is told of everything that must not outlive the tests.
//!
//! A static is never dropped, and a killed process drops nothing. The janitor notices the end of its input in any case.

use std::{
    fmt::Display,
    io::Write,
    os::unix::process::CommandExt,
    process::{ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};

use crate::service::binary;

static JANITOR: Mutex<Option<ChildStdin>> = Mutex::new(None);

/// Tells the janitor, who is called when there is none yet; see its `main` for what it understands.
///
/// # Errors
/// When there is no janitor.
pub fn tell(verb: &str, what: impl Display) -> Result<()> {
    let mut janitor = JANITOR.lock().unwrap_or_else(PoisonError::into_inner);
    if janitor.is_none() {
        *janitor = Some(call()?);
    }
    let input = janitor.as_mut().context("no janitor")?;
    writeln!(input, "{verb} {what}").context("the janitor has gone")
}

fn call() -> Result<ChildStdin> {
    let mut janitor = Command::new(binary("janitor")?);
    // Ctrl-C ends the tests, not the one that clears up after them; and it holds no output that others wait for.
    janitor.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let janitor = janitor.spawn().context("the janitor does not start")?;
    janitor.stdin.context("the janitor has no input")
}

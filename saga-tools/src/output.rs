//! Writes results to standard output and messages to standard error.

use std::io::{self, Write};

use serde::Serialize;

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct OutputError(#[from] io::Error);

/// Writes the text unchanged.
///
/// # Errors
/// When standard output cannot be written.
pub fn print(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes a message for the user. A closed standard error is ignored.
pub fn say(remark: &str) {
    let _ = writeln!(io::stderr(), "saga: {remark}");
}

/// Writes the value as indented JSON.
///
/// # Errors
/// When standard output cannot be written.
pub fn print_json(value: &impl Serialize) -> Result<(), OutputError> {
    print(&pretty(value).map_err(io::Error::from)?)
}

/// Indented JSON with a final line feed.
///
/// # Errors
/// When the value cannot be represented in JSON.
pub fn pretty(value: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(value).map(|text| text + "\n")
}

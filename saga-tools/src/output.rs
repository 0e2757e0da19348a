//! Results on standard output, in one piece, and remarks on standard error.

use std::io::{self, Write};

use serde::Serialize;

/// The results could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct OutputError(#[from] io::Error);

/// Writes the text as it is.
///
/// # Errors
/// When standard output takes it no more.
pub fn print(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Says something to whoever runs the command. Nobody is left to tell when standard error is closed.
pub fn say(remark: &str) {
    let _ = writeln!(io::stderr(), "saga: {remark}");
}

/// Writes the value as JSON that people can read too.
///
/// # Errors
/// When standard output takes it no more.
pub fn print_json(value: &impl Serialize) -> Result<(), OutputError> {
    print(&pretty(value).map_err(io::Error::from)?)
}

/// JSON with a line per field, as it stands in a file.
///
/// # Errors
/// When the value has no form in JSON.
pub fn pretty(value: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(value).map(|text| text + "\n")
}

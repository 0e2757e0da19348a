//! Results on standard output, in one piece, and remarks on standard error.

use std::io::{self, Write};

use serde::Serialize;

/// The results could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub(crate) struct OutputError(#[from] io::Error);

/// Writes the text as it is.
pub(crate) fn print(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Says something to whoever runs the command. Nobody is left to tell when standard error is closed.
pub(crate) fn say(remark: &str) {
    let _ = writeln!(io::stderr(), "saga: {remark}");
}

/// Writes the value as JSON that people can read too.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), OutputError> {
    print(&pretty(value).map_err(io::Error::from)?)
}

/// JSON with a line per field, as it stands in a file.
pub(crate) fn pretty(value: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(value).map(|text| text + "\n")
}

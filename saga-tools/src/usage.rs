//! What is said of the command line itself: help, the version, and what is wrong with it.

use std::{
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

use clap::error::{ContextKind, ContextValue};

use crate::output::{OutputError, say};

/// Their values are addresses, which may hold a password.
const UNQUOTED: [&str; 3] = ["--bootstrap-servers", "--kafka-cfg", "--trace-url"];

/// Answers a command line that is not to be run. Help goes to standard output, and has failed when nobody gets it; what is wrong goes to standard error.
pub fn answer(mut error: clap::Error) -> ExitCode {
    hide(&mut error);
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    match error.print().and_then(|()| io::stdout().flush()) {
        // Whoever reads has read enough, as in `saga --help | head`.
        Err(cause) if !error.use_stderr() && cause.kind() != ErrorKind::BrokenPipe => {
            say(&format!("{:#}", anyhow::Error::from(OutputError::from(cause))));
            ExitCode::FAILURE
        }
        _ => code,
    }
}

fn hide(error: &mut clap::Error) {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return };
    if UNQUOTED.iter().any(|name| argument.starts_with(name)) {
        error.insert(ContextKind::InvalidValue, ContextValue::String("...".to_owned()));
    }
}

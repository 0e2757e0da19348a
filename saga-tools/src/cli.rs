//! The command line of every `saga` program: parses it, runs the command, and reports errors.

use std::{
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue},
};

use crate::{
    flow::FlowArgs,
    output::{OutputError, say},
};

/// Flags whose values are addresses and may hold a password.
const UNQUOTED: [&str; 3] = ["--bootstrap-servers", "--kafka-cfg", "--trace-url"];

#[derive(Parser)]
#[command(name = "saga", version, arg_required_else_help = true)]
struct Cli<C: Subcommand> {
    #[command(flatten)]
    flow: FlowArgs,
    #[command(subcommand)]
    command: C,
}

/// Parses the command line, with these commands and `--flow`, and runs the command. `about` is the first line of `--help`.
/// Results go to standard output, errors to standard error.
pub fn run<C: Subcommand>(
    about: &'static str,
    command: impl FnOnce(FlowArgs, C) -> anyhow::Result<ExitCode>,
) -> ExitCode {
    let parsed = Cli::<C>::command().about(about).try_get_matches();
    match parsed.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches)) {
        Ok(Cli { flow, command: given }) => finish(command(flow, given)),
        Err(error) => report_usage(error),
    }
}

fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        // The reader has closed the pipe, as in `saga graph | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_pipe = |cause: &io::Error| cause.kind() == ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is_pipe))
}

/// Prints help to standard output and usage errors to standard error. Fails when help cannot be written.
fn report_usage(mut error: clap::Error) -> ExitCode {
    hide_value(&mut error);
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    match error.print().and_then(|()| io::stdout().flush()) {
        // The reader has closed the pipe, as in `saga --help | head`.
        Err(cause) if !error.use_stderr() && cause.kind() != ErrorKind::BrokenPipe => {
            say(&format!("{:#}", anyhow::Error::from(OutputError::from(cause))));
            ExitCode::FAILURE
        }
        _ => code,
    }
}

fn hide_value(error: &mut clap::Error) {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return };
    if UNQUOTED.iter().any(|name| argument.starts_with(name)) {
        error.insert(ContextKind::InvalidValue, ContextValue::String("...".to_owned()));
    }
}

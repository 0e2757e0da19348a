//! The command line of a choreography: `check`, `graph`, `schemas`, `produce`, `inspect` and `watch`, for any flow.
//!
//! A flow of one's own has its own `saga` in ten lines (with the crate `saga` and its feature `tools`: `saga::graph::Choreography`
//! and `saga::tools::main`):
//!
//! ```no_run
//! # use saga_core::{Participant, testing::MemoryStore};
//! # fn trip() -> Participant<MemoryStore> { Participant::named("trip") }
//! # fn flight() -> Participant<MemoryStore> { Participant::named("flight") }
//! use saga_core::graph::Choreography;
//!
//! fn main() -> std::process::ExitCode {
//!     saga_tools::main(Choreography::of(vec![trip().declaration(), flight().declaration()]))
//! }
//! ```
//!
//! With `--flow FILE|DIR|URL` any such program works on another flow: what services print with `--describe` and serve at
//! `/participant`.

mod commands;
mod contract;
pub mod event;
#[cfg(test)]
mod fixture;
pub mod flow;
mod inspect;
mod kafka;
mod letter;
pub mod origin;
pub mod output;
mod seen;
pub mod signals;
mod since;
pub mod text;
mod usage;
mod watch;

use std::{io, process::ExitCode};

use clap::Parser;
use saga_core::graph::Choreography;

pub use commands::{Command, Data, Looking, Produce, schemas_that_differ};
pub use flow::{FlowArgs, FlowError};
pub use kafka::{KafkaArgs, KafkaArgsError};
pub use usage::answer;

/// Checks and draws a choreography, writes its schemas, publishes its events, and watches its sagas.
#[derive(Parser)]
#[command(name = "saga", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    flow: FlowArgs,
    #[command(subcommand)]
    command: Command,
}

/// The `main` of a flow's own `saga`: reads the command line and runs the command, on this flow unless `--flow` names another.
pub fn main(flow: Choreography) -> ExitCode {
    match Cli::try_parse() {
        Ok(Cli { flow: given, command }) => finish(|| command.run(&given.read()?.unwrap_or(flow))),
        Err(error) => answer(error),
    }
}

/// Runs a command, and says what went wrong.
pub fn finish(run: impl FnOnce() -> anyhow::Result<ExitCode>) -> ExitCode {
    match run() {
        Ok(code) => code,
        // Whoever reads the results has read enough, as in `saga graph | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_pipe = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is_pipe))
}

//! The command line of a choreography: `check`, `graph`, `schemas`, `produce`, `inspect` and `watch`, for any flow.
//!
//! Your own flow gets its own `saga` in ten lines. With the crate `saga` and its feature `tools`, the paths are
//! `saga::graph::Choreography` and `saga::tools::main`:
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
//! `--flow FILE|DIR|URL` selects another flow: the declarations that services print with `--describe` and serve at
//! `/participant`. A program with commands of its own passes them to [`run`].

mod cli;
mod commands;
mod dead_letter;
pub mod event;
#[cfg(test)]
mod fixture;
pub mod flow;
mod inspect;
mod kafka;
mod observed_record;
pub mod output;
pub mod producing_step;
mod schema;
pub mod signals;
mod start_time;
pub mod text;
mod watch;

use std::process::ExitCode;

use saga_core::graph::Choreography;

pub use cli::run;
pub use commands::{Command, Data, Produce, ReadOnlyCommand, schemas_that_differ};
pub use flow::{FlowArgs, FlowError};
pub use kafka::{KafkaArgs, KafkaArgsError};

/// The `main` of a flow's own `saga`: runs the command line on this flow, or on the one named by `--flow`.
pub fn main(flow: Choreography) -> ExitCode {
    let about = "Checks and draws a choreography, writes its schemas, publishes its events, and watches its sagas";
    run(about, |given: FlowArgs, command: Command| command.run(&given.read()?.unwrap_or(flow)))
}

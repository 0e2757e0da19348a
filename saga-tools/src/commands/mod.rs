//! One command per file: its flags, its work and its errors.

mod check;
mod graph;
mod inspect;
mod new;
mod produce;
mod schemas;
mod watch;

use std::process::ExitCode;

use clap::Subcommand;
use saga_core::graph::Choreography;

pub use produce::{Data, Produce};
pub use schemas::schemas_that_differ;

/// A command that works on any flow.
#[derive(Subcommand)]
#[allow(missing_docs, reason = "each says itself what it does, and that is the text of its help")]
pub enum Command {
    #[command(flatten)]
    ReadOnlyCommand(ReadOnlyCommand),
    Produce(Produce),
}

/// A command that publishes nothing to Kafka.
#[derive(Subcommand)]
#[allow(missing_docs, private_interfaces, reason = "each says itself what it does, and that is the text of its help")]
pub enum ReadOnlyCommand {
    Graph(graph::Graph),
    Check(check::Check),
    Schemas(schemas::Schemas),
    Inspect(inspect::Inspect),
    Watch(watch::Watch),
    New(new::New),
}

impl Command {
    /// Runs the command on this flow.
    ///
    /// # Errors
    /// With a message for the user.
    pub fn run(self, flow: &Choreography) -> anyhow::Result<ExitCode> {
        match self {
            Self::ReadOnlyCommand(command) => command.run(flow),
            Self::Produce(command) => command.run(flow),
        }
    }
}

impl ReadOnlyCommand {
    /// Runs the command on this flow.
    ///
    /// # Errors
    /// With a message for the user.
    pub fn run(self, flow: &Choreography) -> anyhow::Result<ExitCode> {
        Ok(match self {
            Self::Graph(command) => command.run(flow)?,
            Self::Check(command) => command.run(flow)?,
            Self::Schemas(command) => command.run(flow)?,
            Self::Inspect(command) => command.run(flow)?,
            Self::Watch(command) => command.run(flow)?,
            Self::New(command) => command.run()?,
        })
    }
}

//! One command per file: its flags, what it does, and what can go wrong with it.

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
    Looking(Looking),
    Produce(Produce),
}

/// A command that publishes nothing.
#[derive(Subcommand)]
#[allow(missing_docs, private_interfaces, reason = "each says itself what it does, and that is the text of its help")]
pub enum Looking {
    Graph(graph::Graph),
    Check(check::Check),
    Schemas(schemas::Schemas),
    Inspect(inspect::Inspect),
    Watch(watch::Watch),
    New(new::New),
}

impl Command {
    /// Runs it on this flow.
    ///
    /// # Errors
    /// With what to say to whoever called it.
    pub fn run(self, flow: &Choreography) -> anyhow::Result<ExitCode> {
        match self {
            Self::Looking(command) => command.run(flow),
            Self::Produce(command) => command.run(flow),
        }
    }
}

impl Looking {
    /// Runs it on this flow.
    ///
    /// # Errors
    /// With what to say to whoever called it.
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

//! `saga`: the command line of the order flow. Results go to standard output, messages to standard error.

mod bench;
mod commands;
mod contract;
mod demo;
mod event;
#[cfg(test)]
mod fixture;
mod flow;
mod inspect;
mod kafka;
mod letter;
mod origin;
mod otel;
mod output;
mod seen;
mod signals;
mod since;
mod text;
mod usage;
mod watch;

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::commands::{check, graph, produce, schemas};

/// Checks and draws the order flow, writes its schemas, publishes its events, and watches its sagas.
#[derive(Parser)]
#[command(name = "saga", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(commands::demo::Demo),
    Bench(commands::bench::Bench),
    Graph(graph::Graph),
    Check(check::Check),
    Schemas(schemas::Schemas),
    Produce(Box<produce::Produce>),
    Inspect(commands::inspect::Inspect),
    Watch(commands::watch::Watch),
}

impl Command {
    fn run(self) -> anyhow::Result<ExitCode> {
        Ok(match self {
            Self::Demo(command) => command.run()?,
            Self::Bench(command) => command.run()?,
            Self::Graph(command) => command.run()?,
            Self::Check(command) => command.run()?,
            Self::Schemas(command) => command.run()?,
            Self::Produce(command) => command.run()?,
            Self::Inspect(command) => command.run()?,
            Self::Watch(command) => command.run()?,
        })
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::answer(error),
    };
    match cli.command.run() {
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

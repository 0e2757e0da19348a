//! `saga`: the command line of the order flow. Results go to standard output, messages to standard error.

mod bench;
mod commands;
mod demo;
mod flow;
mod otel;

use std::process::ExitCode;

use anyhow::bail;
use clap::{Parser, Subcommand};
use saga_tools::{FlowArgs, Looking};

use crate::{commands::produce::ProduceOrder, flow::order_flow};

/// Checks and draws the order flow, or another one, writes its schemas, publishes its events, and watches its sagas.
#[derive(Parser)]
#[command(name = "saga", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    flow: FlowArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(commands::demo::Demo),
    Bench(commands::bench::Bench),
    Produce(Box<ProduceOrder>),
    #[command(flatten)]
    Looking(Looking),
}

impl Cli {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Self { flow, command } = self;
        if flow.is_given() && matches!(command, Command::Demo(_) | Command::Bench(_)) {
            bail!("demo and bench run the order flow: they take no --flow");
        }
        let flow = match flow.read()? {
            Some(flow) => flow,
            None => order_flow()?,
        };
        match command {
            Command::Demo(command) => Ok(command.run(&flow)?),
            Command::Bench(command) => command.run(),
            Command::Produce(command) => command.run(&flow),
            Command::Looking(command) => command.run(&flow),
        }
    }
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => saga_tools::finish(|| cli.run()),
        Err(error) => saga_tools::answer(error),
    }
}

//! `saga`: the command line of the order flow.

mod bench;
mod commands;
mod demo;
mod flow;
mod trace_export;

use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use saga_tools::{FlowArgs, ReadOnlyCommand};

use crate::{commands::produce::ProduceOrder, flow::order_flow};

const ABOUT: &str =
    "Checks and draws the order flow, or another one, writes its schemas, publishes its events, and watches its sagas";

#[derive(Subcommand)]
enum Command {
    Demo(commands::demo::Demo),
    Bench(commands::bench::Bench),
    Produce(Box<ProduceOrder>),
    #[command(flatten)]
    ReadOnly(ReadOnlyCommand),
}

fn run(given: FlowArgs, command: Command) -> anyhow::Result<ExitCode> {
    if given.is_given() && matches!(command, Command::Demo(_) | Command::Bench(_)) {
        bail!("demo and bench run the order flow: they take no --flow");
    }
    let flow = match given.read()? {
        Some(flow) => flow,
        None => order_flow()?,
    };
    match command {
        Command::Demo(command) => Ok(command.run(&flow)?),
        Command::Bench(command) => command.run(),
        Command::Produce(command) => command.run(&flow),
        Command::ReadOnly(command) => command.run(&flow),
    }
}

fn main() -> ExitCode {
    saga_tools::run(ABOUT, run)
}

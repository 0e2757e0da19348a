//! `saga demo`: everything at once, with nothing else installed.

use std::{io, process::ExitCode};

use clap::Args;
use saga_core::graph::{Choreography, Finding};
use serde::Serialize;

use saga_tools::output::{OutputError, print, print_json};

use crate::demo::{self, DemoError, Settings};

/// The fewest orders: one for each ending.
const FEWEST: usize = 8;

/// Run the whole flow in one process, order by order of every kind, and check that nothing went wrong
///
/// An embedded broker, SQLite in a temporary folder, and the four services as their binaries run them. Exits with 0 only
/// if every invariant holds.
#[derive(Args)]
pub(crate) struct Demo {
    /// How many orders to place, over every ending; 8 is the fewest
    #[arg(long, default_value_t = 80, value_parser = orders)]
    orders: usize,
    /// How many orders to place per second
    #[arg(long, default_value_t = 20.0, value_parser = rate)]
    rate: f64,
    /// Stay up until ctrl-c, on the services' usual ports where they are free, and leave the databases behind
    #[arg(long)]
    keep: bool,
    /// Print one JSON document instead
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoCommandError {
    #[error("no runtime")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// What is printed instead of a report.
#[derive(Serialize)]
struct Refused<'a> {
    holds: bool,
    findings: &'a [Finding],
}

impl Demo {
    pub(crate) fn run(self, flow: &Choreography) -> Result<ExitCode, DemoCommandError> {
        let findings = flow.check();
        if !findings.is_empty() {
            refuse(&findings, self.json)?;
            return Ok(ExitCode::FAILURE);
        }
        let Self { orders, rate, keep, json } = self;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(DemoCommandError::Runtime)?;
        Ok(runtime.block_on(demo::run(flow, Settings { orders, rate, keep, json }))?)
    }
}

/// Participants that do not fit together are not started.
fn refuse(findings: &[Finding], json: bool) -> Result<(), OutputError> {
    if json {
        return print_json(&Refused { holds: false, findings });
    }
    let lines = findings.iter().map(|finding| format!("  ✗ {finding}\n")).collect::<String>();
    print(&format!("The participants do not fit together, so none is started:\n{lines}"))
}

fn orders(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|orders| (FEWEST..=10_000).contains(orders))
        .ok_or_else(|| format!("expected a number from {FEWEST} to 10000: there are {FEWEST} endings"))
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate: &f64| (0.1..=10_000.0).contains(rate))
        .ok_or_else(|| "expected orders per second, from 0.1 to 10000".to_owned())
}

//! `saga demo`: runs the whole order flow in one process.

use std::{io, process::ExitCode};

use clap::Args;
use saga_core::graph::{Choreography, Finding};
use serde::Serialize;

use saga_tools::output::{OutputError, print, print_json};

use crate::demo::{self, DemoError, Settings};

/// One order for each scenario.
const FEWEST: usize = 8;

/// Run the whole order flow in one process, place orders for every scenario, and verify the result
///
/// Uses an embedded broker, SQLite in a temporary folder, and the four services as their binaries run them. Exits with 0
/// only if every invariant holds.
#[derive(Args)]
pub(crate) struct Demo {
    /// Number of orders over all scenarios, at least 8
    #[arg(long, default_value_t = 80, value_parser = orders)]
    orders: usize,
    /// Orders placed per second
    #[arg(long, default_value_t = 20.0, value_parser = rate)]
    rate: f64,
    /// Keep running until ctrl-c, on the services' usual ports if they are free, and keep the databases
    #[arg(long)]
    keep: bool,
    /// Print one JSON document instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoCommandError {
    #[error("the async runtime cannot be started")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// The JSON printed when the participants do not fit together.
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

/// Reports findings; the services are not started.
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

//! The result of a measurement: a table, or JSON.

use serde::Serialize;

use super::{load::Round, process_usage::ProcessUsage};
use saga_tools::output;

/// One round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    in_flight: usize,
    round: usize,
    sagas: usize,
    sagas_per_second: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    processes: Vec<ProcessUsage>,
}

impl Measured {
    pub(super) fn new(in_flight: usize, round: usize, result: &Round, processes: Vec<ProcessUsage>) -> Self {
        let ms = |share| result.percentile(share).as_secs_f64() * 1_000.0;
        Self {
            in_flight,
            round,
            sagas: result.latencies.len(),
            sagas_per_second: result.per_second(),
            p50_ms: ms(0.5),
            p95_ms: ms(0.95),
            p99_ms: ms(0.99),
            max_ms: ms(1.0),
            processes,
        }
    }
}

/// Prints every round.
pub(crate) fn print(results: &[Measured], json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(output::print_json(&results)?);
    }
    let mut text = format!(
        "{:>9} {:>5} {:>8} {:>9} {:>9} {:>9} {:>9}  {}\n",
        "in flight", "round", "sagas/s", "p50 ms", "p95 ms", "p99 ms", "max ms", "CPU % of a core / peak MiB"
    );
    for r in results {
        let usage = r.processes.iter().map(|p| format!("{} {:.0}/{:.0}", p.process, p.cpu_percent, p.peak_memory_mib));
        text.push_str(&format!(
            "{:>9} {:>5} {:>8.0} {:>9.1} {:>9.1} {:>9.1} {:>9.1}  {}\n",
            r.in_flight,
            r.round,
            r.sagas_per_second,
            r.p50_ms,
            r.p95_ms,
            r.p99_ms,
            r.max_ms,
            usage.collect::<Vec<_>>().join("  ")
        ));
    }
    Ok(output::print(&text)?)
}

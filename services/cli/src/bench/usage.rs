//! What the service processes cost: CPU time and memory, as the kernel counts them.

use std::{collections::BTreeMap, fs, time::Duration};

use serde::Serialize;

use super::processes::Processes;

/// The kernel counts CPU time in hundredths of a second on every Linux this runs on (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU ticks and peak memory of every process so far.
pub(super) struct Usage(BTreeMap<&'static str, (u64, u64)>);

/// One process in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProcessUsage {
    pub(crate) process: &'static str,
    /// In percent of one core.
    pub(crate) cpu_percent: f64,
    /// The largest resident size so far.
    pub(crate) peak_memory_mib: f64,
}

impl Usage {
    /// Nothing where there is no `/proc`.
    pub(super) fn of(processes: &Processes) -> anyhow::Result<Self> {
        let usage = processes.pids().filter_map(|(name, pid)| Some((name, (ticks(pid)?, peak_kib(pid)?))));
        Ok(Self(usage.collect()))
    }

    pub(super) fn since(&self, before: &Self, took: Duration) -> Vec<ProcessUsage> {
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let usage = self.0.iter().filter_map(|(process, (ticks, peak))| {
            let spent = ticks.saturating_sub(before.0.get(process)?.0) as f64 / TICKS_PER_SECOND;
            let cpu_percent = 100.0 * spent / took.as_secs_f64();
            Some(ProcessUsage { process, cpu_percent, peak_memory_mib: *peak as f64 / 1024.0 })
        });
        usage.collect()
    }
}

fn ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses and may hold spaces; user and system time are the 12th and 13th after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn peak_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

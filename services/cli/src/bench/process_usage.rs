//! CPU time and memory of the service processes. Only Linux reports them.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::processes::Processes;

/// CPU time and peak memory of every process so far.
pub(super) struct Usage(BTreeMap<&'static str, Sample>);

struct Sample {
    cpu: Duration,
    peak_memory_mib: f64,
}

/// The usage of one process in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProcessUsage {
    pub(crate) process: &'static str,
    /// In percent of one core.
    pub(crate) cpu_percent: f64,
    /// The largest resident size so far.
    pub(crate) peak_memory_mib: f64,
}

impl Usage {
    /// Measures all processes. The result is empty on systems other than Linux.
    pub(super) fn of(processes: &Processes) -> Self {
        Self(processes.pids().filter_map(|(name, pid)| Some((name, sample(pid)?))).collect())
    }

    pub(super) fn since(&self, before: &Self, took: Duration) -> Vec<ProcessUsage> {
        let usage = self.0.iter().filter_map(|(process, Sample { cpu, peak_memory_mib })| {
            let spent = cpu.saturating_sub(before.0.get(process)?.cpu);
            let cpu_percent = 100.0 * spent.as_secs_f64() / took.as_secs_f64();
            Some(ProcessUsage { process, cpu_percent, peak_memory_mib: *peak_memory_mib })
        });
        usage.collect()
    }
}

#[cfg(target_os = "linux")]
fn sample(pid: u32) -> Option<Sample> {
    let process = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?;
    let (stat, status) = (process.stat().ok()?, process.status().ok()?);
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (ticks, peak_kib) = ((stat.utime + stat.stime) as f64, status.vmhwm? as f64);
    #[allow(clippy::cast_precision_loss, reason = "100 on every Linux")]
    let cpu = Duration::from_secs_f64(ticks / procfs::ticks_per_second() as f64);
    Some(Sample { cpu, peak_memory_mib: peak_kib / 1024.0 })
}

#[cfg(not(target_os = "linux"))]
fn sample(_: u32) -> Option<Sample> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_memory_and_time() {
        let mut sum = 0_u64;
        let own = loop {
            sum = std::hint::black_box(sum.wrapping_add(1));
            let own = sample(std::process::id()).unwrap();
            if own.cpu > Duration::ZERO {
                break own;
            }
        };
        assert!(own.peak_memory_mib > 1.0 && sum > 0);
        assert!(sample(u32::MAX).is_none());
    }
}

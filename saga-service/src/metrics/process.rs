//! Metrics of the process, under the names that Prometheus' clients use. Linux only.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use super::gauge;

#[derive(Debug)]
pub(super) struct Process {
    started: Duration,
}

impl Process {
    pub(super) fn new() -> Self {
        Self { started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let started = ConstGauge::new(self.started.as_secs_f64());
        gauge(&mut encoder, "process_start_time_seconds", "When the service started, in Unix time", &started)?;
        let Measured { resident_bytes, open_files, cpu_seconds } = measure();
        if let Some(bytes) = resident_bytes {
            let resident = ConstGauge::new(bytes);
            gauge(&mut encoder, "process_resident_memory_bytes", "Memory in use", &resident)?;
        }
        if let Some(files) = open_files {
            gauge(&mut encoder, "process_open_fds", "Open file descriptors", &ConstGauge::new(files))?;
        }
        if let Some(seconds) = cpu_seconds {
            let cpu = ConstCounter::new(seconds);
            let metric = encoder.encode_descriptor(
                "process_cpu_seconds",
                "Processor time used, in user and system mode",
                None,
                cpu.metric_type(),
            )?;
            cpu.encode(metric)?;
        }
        Ok(())
    }
}

/// What the operating system reports about this process; none of it on systems other than Linux.
#[derive(Default)]
struct Measured {
    resident_bytes: Option<i64>,
    open_files: Option<i64>,
    cpu_seconds: Option<f64>,
}

#[cfg(target_os = "linux")]
fn measure() -> Measured {
    let Ok(process) = procfs::process::Process::myself() else { return Measured::default() };
    let kib = process.status().ok().and_then(|status| i64::try_from(status.vmrss?).ok());
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
    Measured {
        resident_bytes: kib.map(|kib| kib * 1024),
        open_files: process.fd_count().ok().and_then(|files| i64::try_from(files).ok()),
        cpu_seconds: process.stat().ok().map(|stat| seconds(stat.utime + stat.stime)),
    }
}

#[cfg(not(target_os = "linux"))]
fn measure() -> Measured {
    Measured::default()
}

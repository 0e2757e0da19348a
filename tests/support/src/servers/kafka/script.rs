//! A Kafka without Docker: a process that `scripts/kafka` starts.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Runs `scripts/kafka` for the Kafka on this port.
pub(super) fn run(verb: &str, port: u16) -> Result<()> {
    let mut kafka = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/kafka"));
    kafka.arg(verb).env("KAFKA_PORT", port.to_string()).env("KAFKA_HEAP_OPTS", "-Xms128m -Xmx512m");
    let output = kafka.stdin(Stdio::null()).output().context("scripts/kafka does not run")?;
    ensure!(output.status.success(), "scripts/kafka {verb}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

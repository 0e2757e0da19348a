//! The process that removes this one's containers when it has ended, however it ended.
//!
//! A static is never dropped, a killed process drops nothing, and testcontainers for Rust has no process that would see to it.
//! This one is there before the first container, goes by their label, and notices the end of its input in any case.

use std::{
    os::unix::process::CommandExt,
    process::{ChildStdin, Command, Stdio},
    sync::LazyLock,
};

use anyhow::{Context, Result, anyhow};
use uuid::Uuid;

/// Every container has it; its value is the process's own.
pub(crate) const LABEL: &str = "saga.tests";

/// Looks until nothing has been there for five seconds: Docker may still be at work on what a killed process asked for.
const SCRIPT: &str = r#"
    trap '' HUP INT TERM
    cat >/dev/null
    empty=0
    for round in $(seq 120); do
        left=$(docker ps --all --quiet --filter "label=$1") || left=
        if [ -n "$left" ]; then
            empty=0
            # Not quoted: one word each.
            docker rm --force --volumes $left
        else
            empty=$((empty + 1))
            if [ $empty -gt 10 ]; then break; fi
        fi
        sleep 0.5
    done
"#;

/// The value of this process's label. The remover is there when it is known.
pub(crate) fn label() -> Result<&'static str> {
    /// The value, and what ends with this process.
    static REMOVER: LazyLock<Result<(String, Option<ChildStdin>), String>> = LazyLock::new(|| {
        let label = format!("{}-{}", std::process::id(), Uuid::new_v4().simple());
        // As testcontainers has it.
        let keep = std::env::var("TESTCONTAINERS_COMMAND").is_ok_and(|command| command == "keep");
        let input = if keep { None } else { Some(call(&label).map_err(|error| format!("{error:#}"))?) };
        Ok((label, input))
    });
    REMOVER.as_ref().map(|(label, _)| label.as_str()).map_err(|error| anyhow!(error.clone()))
}

fn call(label: &str) -> Result<ChildStdin> {
    let mut remover = Command::new("sh");
    remover.args(["-c", SCRIPT, "sh", &format!("{LABEL}={label}")]);
    // Ctrl-C ends the tests, not the one that clears up after them; and it holds no output that others wait for.
    remover.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let remover = remover.spawn().context("nobody would remove the containers: sh does not start")?;
    remover.stdin.context("nobody would remove the containers: sh has no input")
}

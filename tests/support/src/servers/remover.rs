//! The process that removes this one's containers when it has ended, however it ended.
//!
//! A static is never dropped, and a killed process drops nothing. testcontainers for Rust has no process that would see to it:
//! its feature `watchdog` is a thread of this process, which handles signals and does not survive `kill -9`.
//! This one is there before the first container, goes by their label, and notices the end of its input in any case.

#[cfg(unix)]
use std::os::unix::process::CommandExt as _;
use std::{
    process::{ChildStdin, Command, Stdio},
    sync::LazyLock,
};

use anyhow::{Context, Result, anyhow};
use uuid::Uuid;

/// Every container has it; its value is the process's own.
pub(crate) const LABEL: &str = "saga.tests";

/// They have it besides where `SAGA_TEST_RUN` is set, whose value it has: whoever starts many processes knows theirs by it.
pub(crate) const RUN_LABEL: &str = "saga.tests.run";

/// Looks until nothing has been there for five seconds: Docker may still be at work on what a killed process asked for.
const SCRIPT: &str = r#"
    trap '' HUP INT TERM
    cat >/dev/null
    empty=0
    for round in $(seq 120); do
        # A Docker that fails to answer has not said that nothing is there.
        if left=$(docker ps --all --quiet --filter "label=$1"); then
            if [ -n "$left" ]; then
                empty=0
                # Not quoted: one word each.
                docker rm --force --volumes $left
            else
                empty=$((empty + 1))
                if [ $empty -gt 10 ]; then break; fi
            fi
        fi
        sleep 0.5
    done
"#;

/// The value of this process's label. The remover is there when it is known.
pub(crate) fn label() -> Result<&'static str> {
    /// The value, and what ends with this process.
    static REMOVER: LazyLock<Result<(String, Option<ChildStdin>), String>> = LazyLock::new(|| {
        let label = format!("{}-{}", std::process::id(), Uuid::new_v4().simple());
        let input = if keeps() { None } else { Some(call(&label).map_err(|error| format!("{error:#}"))?) };
        Ok((label, input))
    });
    REMOVER.as_ref().map(|(label, _)| label.as_str()).map_err(|error| anyhow!(error.clone()))
}

/// Whether containers are left for a look, as testcontainers has it.
pub(crate) fn keeps() -> bool {
    std::env::var("TESTCONTAINERS_COMMAND").is_ok_and(|command| command == "keep")
}

fn call(label: &str) -> Result<ChildStdin> {
    let mut remover = Command::new("sh");
    remover.args(["-c", SCRIPT, "sh", &format!("{LABEL}={label}")]);
    // Ctrl-C ends the tests, not the one that clears up after them.
    #[cfg(unix)]
    remover.process_group(0);
    // It holds no output that others wait for.
    remover.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let remover = remover.spawn().context("nobody would remove the containers: sh does not start")?;
    remover.stdin.context("nobody would remove the containers: sh has no input")
}

#[cfg(all(test, unix))]
mod tests {
    use std::{
        env, fs,
        os::unix::fs::PermissionsExt as _,
        process::{Command, Stdio},
    };

    /// Fails at first, more often than an empty answer is asked for; then there is a container until it is removed.
    const DOCKER: &str = r#"#!/bin/sh
        cd "$(dirname "$0")"
        echo "$*" >>calls
        case $1 in
            rm) touch removed ;;
            ps) if [ "$(grep -c '^ps' calls)" -le 15 ]; then exit 1; elif [ ! -f removed ]; then echo c0ffee; fi ;;
        esac
    "#;

    #[test]
    fn a_docker_that_does_not_answer_is_asked_again() {
        let folder = env::temp_dir().join(format!("saga-remover-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&folder).unwrap();
        for (name, script) in [("docker", DOCKER), ("sleep", "#!/bin/sh\n")] {
            fs::write(folder.join(name), script).unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:{}", folder.display(), env::var("PATH").unwrap());
        let mut remover = Command::new("sh");
        remover.args(["-c", super::SCRIPT, "sh", "saga.tests=1"]).env("PATH", path).stdin(Stdio::null());
        assert!(remover.status().unwrap().success());
        let calls = fs::read_to_string(folder.join("calls")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(calls.matches("rm --force --volumes c0ffee\n").count(), 1, "{calls}");
        assert_eq!(calls.lines().last(), Some("ps --all --quiet --filter label=saga.tests=1"));
        // Fifteen failures, the container, and eleven times nothing.
        assert_eq!(calls.matches("ps ").count(), 27, "{calls}");
    }
}

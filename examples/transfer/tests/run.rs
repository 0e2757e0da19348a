//! The program as a newcomer runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::process::{Command, Output};

fn transfer(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_transfer")).args(args).output().unwrap()
}

#[test]
fn it_runs_every_ending_and_everything_holds() {
    let run = transfer(&[]);
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(text.matches("  yes  ").count(), 8, "{text}");
    for (ending, count) in [("credited", " 200"), ("no cover", " 50"), ("account closed", " 50")] {
        let is_so = |line: &str| line.trim_start().starts_with(ending) && line.ends_with(count);
        assert!(text.lines().any(is_so), "{ending}\n{text}");
    }
}

#[test]
fn it_is_the_flows_own_saga() {
    let check = transfer(&["check"]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    assert_eq!(transfer(&["no-such-command"]).status.code(), Some(2));
}

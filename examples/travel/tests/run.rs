//! The program as a newcomer runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::process::{Command, Output};

fn travel(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_travel")).args(args).output().unwrap()
}

#[test]
fn it_runs_every_ending_and_everything_holds() {
    let run = travel(&[]);
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(text.matches("  yes  ").count(), 8, "{text}");
    for ending in [
        "confirmed",
        "no_flight",
        "no_hotel",
        "no_car",
        "card_declined",
        "price_refused",
        "no_answer",
        "deadline",
        "customer",
    ] {
        assert!(text.lines().any(|line| line.ends_with(ending)), "{ending}\n{text}");
    }
}

#[test]
fn it_is_the_flows_own_saga() {
    let check = travel(&["check"]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    assert_eq!(travel(&["no-such-command"]).status.code(), Some(2));
}

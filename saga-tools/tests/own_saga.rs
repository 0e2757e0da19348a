//! A flow's own `saga`, as `examples/own_saga.rs` builds it: its commands work on that flow.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::{Command, Output};

fn saga(args: &[&str]) -> Output {
    // Cargo builds examples beside the folder of the test binaries.
    let tests = std::env::current_exe().unwrap();
    let examples = tests.parent().unwrap().parent().unwrap().join("examples");
    let program = examples.join(format!("own_saga{}", std::env::consts::EXE_SUFFIX));
    Command::new(program).args(args).env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn its_commands_work_on_its_flow() {
    let graph = saga(&["graph"]);
    let (drawn, error) = (text(&graph.stdout), text(&graph.stderr));
    assert_eq!(graph.status.code(), Some(0), "{error}");
    assert!(drawn.contains("trip.requested") && drawn.contains("flight.reserved"), "{drawn}");
    let check = saga(&["check"]);
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stdout));
    let refused = saga(&["produce", "trip.requested", "--field", "seats=many"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("seats: "), "{}", text(&refused.stderr));
}

#[test]
fn help_and_usage_errors_have_the_usual_exit_codes() {
    let help = saga(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let help = text(&help.stdout);
    for word in ["Checks and draws a choreography", "--flow", "inspect", "watch", "produce"] {
        assert!(help.contains(word), "{word}\n{help}");
    }
    assert_eq!(saga(&["no-such-command"]).status.code(), Some(2));
    let wrong = saga(&["--flow", "https://flight", "check"]);
    assert_eq!((wrong.status.code(), wrong.stdout.len()), (Some(2), 0));
}

//! What the command line does with output that cannot be written, and with secrets among its arguments.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::process::Command;

fn saga(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_saga"));
    command.args(args).env_remove("SAGA_TRACE_URL").env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1");
    command
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_cannot_be_written_is_no_success() {
    for args in [
        &["--help"][..],
        &["--version"],
        &["help", "demo"],
        &["produce", "--help"],
        &["bench", "--help"],
        &["graph"],
        &["graph", "--json"],
        &["check"],
        &["check", "--json"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = saga(args).stdout(full).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {message}");
        assert!(message.starts_with("saga: cannot write to standard output: "), "{args:?}: {message}");
    }
}

#[test]
fn an_address_with_a_password_in_it_is_a_usage_error_that_does_not_show_it() {
    let saga_id = "00000000-0000-0000-0000-000000000007";
    let trace = |url: &'static str| vec!["inspect", saga_id, "--trace-url", url];
    let cases = [
        trace("http://saga:p@hunter2@jaeger/trace/{trace_id}"),
        trace("http://saga:12/hunter2@jaeger/trace/{trace_id}"),
        trace("http://jaeger/hunter2"),
        vec!["watch", "--bootstrap-servers", "saga:hunter2@kafka:9092"],
        vec!["watch", "--bootstrap-servers", "saga:hunter2:9092"],
        vec!["produce", "order.created", "--bootstrap-servers", "SASL_SSL://saga:p@hunter2@kafka:9092"],
    ];
    for args in cases {
        let output = saga(&args).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains("error: ") && !said.contains("hunter2"), "{args:?}: {said}");
    }
    let by_variable =
        saga(&["inspect", "--help"]).env("SAGA_TRACE_URL", "http://saga:hunter2@jaeger").output().unwrap();
    assert!(!String::from_utf8_lossy(&by_variable.stdout).contains("hunter2"));
    let flag = saga(&["watch", "--kafka-cfg", "sasl.password:hunter2"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&flag.stderr).contains("hunter2"));
}

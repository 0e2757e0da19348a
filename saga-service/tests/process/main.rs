//! A service as a process: its settings, its one line about a wrong one, its signals and its exit code.
#![allow(clippy::unwrap_used, reason = "a test that fails")]
#![cfg(unix)]

mod best_effort;
mod child;
#[path = "../common/mod.rs"]
mod common;
mod connections;
mod joins;
mod live;
mod renamed_step;
mod rounds;
mod telemetry;

use std::net::TcpListener;

use child::{ANY, END, MEMORY, NO_BROKER, NO_DATABASE, Probe, Variable, probe, said};
use common::{client, wait_for};
use saga_service::testing::Collector;

#[test]
fn a_wrong_setting_is_one_line_that_names_its_variable_and_exit_code_2() {
    let empty = std::env::temp_dir().join(format!("saga-empty-{}", std::process::id()));
    std::fs::write(&empty, "\n").unwrap();
    let empty: &'static str = empty.to_str().unwrap().to_owned().leak();
    let unencoded = std::env::temp_dir().join(format!("saga-unencoded-{}", std::process::id()));
    std::fs::write(&unencoded, "postgres://saga:p/hunter2@db/orders\n").unwrap();
    let unencoded: &'static str = unencoded.to_str().unwrap().to_owned().leak();
    let cases: &[(&str, &str, &[Variable])] = &[
        ("SAGA_TOPIC_PARTITIONS", "from 1 to", &[("SAGA_TOPIC_PARTITIONS", "0")]),
        ("SAGA_TOPIC_PARTITIONS", "from 1 to", &[("SAGA_TOPIC_PARTITIONS", "-1")]),
        ("SAGA_TOPIC_PARTITIONS", "from 1 to", &[("SAGA_TOPIC_PARTITIONS", "six")]),
        ("SAGA_TOPIC_REPLICATION_FACTOR", "from 1 to", &[("SAGA_TOPIC_REPLICATION_FACTOR", "0")]),
        ("SAGA_INSTANCE_ID", "letters", &[("SAGA_INSTANCE_ID", "a b")]),
        ("HTTP_ADDR", "127.0.0.1:8081", &[("HTTP_ADDR", "8081")]),
        ("HTTP_ADDR", "127.0.0.1:8081", &[("HTTP_ADDR", "127.0.0.1:99999")]),
        ("DATABASE_URL", "postgres://", &[("DATABASE_URL", "mysql://root:hunter2@localhost/x")]),
        ("DATABASE_URL", "percent-encoded", &[("DATABASE_URL", "postgres://saga:p@hunter2@db/orders")]),
        ("DATABASE_URL_FILE", "percent-encoded", &[("DATABASE_URL_FILE", unencoded)]),
        ("DATABASE_URL_FILE", "cannot read", &[("DATABASE_URL_FILE", "/nonexistent")]),
        ("DATABASE_URL_FILE", "is empty", &[("DATABASE_URL_FILE", empty)]),
        ("DATABASE_URL_FILE", "one of them", &[MEMORY, ("DATABASE_URL_FILE", empty)]),
        ("KAFKA_BOOTSTRAP_SERVERS", "host:port", &[("KAFKA_BOOTSTRAP_SERVERS", "localhost:port")]),
        ("KAFKA_BOOTSTRAP_SERVERS", "host:port", &[("KAFKA_BOOTSTRAP_SERVERS", "a:9092,,b:9092")]),
        ("KAFKA_BOOTSTRAP_SERVERS", "no password", &[("KAFKA_BOOTSTRAP_SERVERS", "saga:hunter2@kafka:9092")]),
        ("KAFKA_CFG_NO_SUCH_THING", "no property", &[("KAFKA_CFG_NO_SUCH_THING", "hunter2")]),
        ("KAFKA_CFG_SECURITY_PROTOCOL", "security.protocol", &[("KAFKA_CFG_SECURITY_PROTOCOL", "nonsense")]),
        ("KAFKA_CFG_SASL_PASSWORD_FILE", "cannot read", &[("KAFKA_CFG_SASL_PASSWORD_FILE", "/nonexistent")]),
        (
            "KAFKA_CFG_SASL_PASSWORD_FILE",
            "one of them",
            &[("KAFKA_CFG_SASL_PASSWORD", "hunter2"), ("KAFKA_CFG_SASL_PASSWORD_FILE", empty)],
        ),
        ("KAFKA_CFG_GROUP_ID", "participant", &[("KAFKA_CFG_GROUP_ID", "mine")]),
        // More than an idempotent producer may have, which shows only when both are seen.
        ("KAFKA_CFG_*", "max.in.flight", &[MEMORY, ANY, ("KAFKA_CFG_MAX_IN_FLIGHT_REQUESTS_PER_CONNECTION", "10")]),
        ("HTTP_IDLE_TIMEOUT", "duration", &[("HTTP_IDLE_TIMEOUT", "75")]),
        ("HTTP_IDLE_TIMEOUT", "from 1s", &[("HTTP_IDLE_TIMEOUT", "0s")]),
        ("HTTP_CONCURRENCY", "from 1 to", &[("HTTP_CONCURRENCY", "0")]),
        ("HTTP_QUEUE", "from 0 to", &[("HTTP_QUEUE", "-1")]),
        ("SHUTDOWN_GRACE", "duration", &[("SHUTDOWN_GRACE", "soon")]),
        ("SHUTDOWN_GRACE", "to 3600s", &[("SHUTDOWN_GRACE", "2h")]),
        ("RUST_LOG", "level", &[("RUST_LOG", "info=what=ever")]),
        ("LOG_FORMAT", "json or pretty", &[("LOG_FORMAT", "xml")]),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "URL", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "hunter2")]),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "cannot read", &[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent")]),
        ("PROBE_LIMIT", "", &[("PROBE_LIMIT", "many")]),
        ("PROBE_LIMIT", "at least 1", &[("PROBE_LIMIT", "0"), MEMORY, ANY]),
    ];
    for (variable, fix, variables) in cases {
        let output = probe(variables).output().unwrap();
        let line = said(&output);
        assert_eq!(output.status.code(), Some(2), "{variables:?}: {line}");
        assert_eq!(line.lines().count(), 1, "{variables:?}: {line}");
        assert!(line.starts_with(&format!("probe-service: {variable}: ")), "{variables:?}: {line}");
        assert!(line.contains(fix) && !line.contains("hunter2"), "{variables:?}: {line}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_wrong_flag_is_one_line_and_exit_code_2() {
    let cases: &[(&[&str], &str)] = &[
        (&["--saga-topic-partitions", "0"], "SAGA_TOPIC_PARTITIONS"),
        (&["--saga-topic-partitions"], "SAGA_TOPIC_PARTITIONS"),
        (&["--kafka-cfg", "sasl.password"], "--kafka-cfg"),
        (&["--kafka-cfg", "no.such.thing=hunter2"], "--kafka-cfg"),
        (&["--database-pass=hunter2"], "--database-pass"),
        (&["hunter2"], "--help"),
        (&["--http-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"], "HTTP_ADDR"),
    ];
    for (flags, named) in cases {
        let output = probe(&[]).args(*flags).output().unwrap();
        let line = said(&output);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {line}");
        assert_eq!(line.lines().count(), 1, "{flags:?}: {line}");
        assert!(line.contains(named) && !line.contains("hunter2"), "{flags:?}: {line}");
    }
}

#[test]
fn help_lists_every_variable_with_its_default_and_no_value() {
    let output = probe(&[NO_DATABASE, ("KAFKA_CFG_SASL_PASSWORD", "hunter2")]).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.starts_with("The probe participant"), "{help}");
    assert_eq!(output.status.code(), Some(0));
    for text in [
        "[env: KAFKA_BOOTSTRAP_SERVERS]",
        "[default: localhost:9092]",
        "KAFKA_CFG_",
        "[env: DATABASE_URL]",
        "sqlite://./data/probe.db",
        "[env: DATABASE_URL_FILE]",
        "[env: HTTP_ADDR]",
        "[default: 127.0.0.1:8099]",
        "[env: HTTP_IDLE_TIMEOUT]",
        "[default: 75s]",
        "[env: HTTP_CONCURRENCY]",
        "[default: 8]",
        "[env: HTTP_QUEUE]",
        "[default: 256]",
        "[env: SHUTDOWN_GRACE]",
        "[default: 0s]",
        "[env: SAGA_TOPIC_PARTITIONS]",
        "[default: 6]",
        "[env: SAGA_TOPIC_REPLICATION_FACTOR]",
        "[env: SAGA_INSTANCE_ID]",
        "[env: RUST_LOG]",
        "[env: LOG_FORMAT]",
        "[env: PROBE_LIMIT]",
        "variables only, without a flag",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "_HEADERS_FILE",
        "[default: 3]",
    ] {
        assert!(help.contains(text), "{text} is not in {help}");
    }
    assert!(!help.contains("hunter2"), "{help}");
}

#[test]
#[cfg(target_os = "linux")]
fn help_that_cannot_be_written_is_no_success() {
    for flag in ["--help", "--version"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = probe(&[]).arg(flag).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).starts_with("probe-service: cannot write to standard output: "), "{}", said(&output));
    }
}

#[test]
fn a_health_check_is_a_second_process_with_the_same_settings() {
    let service = Probe::start(&[NO_DATABASE, NO_BROKER]);
    let addr = service.addr.to_string();
    let check = || probe(&[NO_DATABASE, NO_BROKER, ("HTTP_ADDR", &addr)]).arg("--healthcheck").output().unwrap();
    let output = check();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).starts_with("probe-service: not ready: {\"ready\":false"), "{}", said(&output));
    drop(service);
    let output = check();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).starts_with(&format!("probe-service: no answer from {addr}: ")), "{}", said(&output));
}

#[test]
fn sigterm_while_the_database_is_away_ends_the_process_promptly_with_exit_code_0() {
    let probe = Probe::start(&[NO_DATABASE, NO_BROKER]);
    wait_for(|| client::get(probe.addr, "/readyz").unwrap().body, |body| body.contains("refused"));
    probe.signal("-TERM");
    let (status, log, took) = probe.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(took < END, "{took:?}: {log}");
}

#[test]
fn sigterm_while_the_broker_is_away_ends_the_process_promptly_with_exit_code_0() {
    let probe = Probe::start(&[MEMORY, NO_BROKER]);
    wait_for(|| client::get(probe.addr, "/readyz").unwrap().body, |body| body.contains("127.0.0.1:1"));
    assert_eq!(client::post(probe.addr, "/ask", "application/json", b"").unwrap().status, 202);
    probe.signal("-INT");
    let (status, log, took) = probe.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(took < END, "{took:?}: {log}");
}

#[test]
fn empty_variables_count_as_not_set() {
    let names = [
        "SAGA_TOPIC_PARTITIONS",
        "SAGA_TOPIC_REPLICATION_FACTOR",
        "SAGA_INSTANCE_ID",
        "HTTP_IDLE_TIMEOUT",
        "HTTP_CONCURRENCY",
        "HTTP_QUEUE",
        "SHUTDOWN_GRACE",
        "RUST_LOG",
        "LOG_FORMAT",
    ];
    let mut variables = names.map(|name| (name, "")).to_vec();
    variables.extend([MEMORY, NO_BROKER, ("KAFKA_CFG_SASL_PASSWORD", ""), ("DATABASE_URL_FILE", "")]);
    let probe = Probe::start(&variables);
    probe.signal("-TERM");
    let (status, log, _) = probe.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("partitions: 6"), "{log}");
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let probe = Probe::start(&[MEMORY, NO_BROKER]);
    wait_for(|| client::get(probe.addr, "/readyz").unwrap().body, |body| !body.contains("database"));
    let slow = client::open(probe.addr, "GET /slow HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(client::get(probe.addr, "/livez").unwrap().status, 200);
    probe.signal("-TERM");
    wait_for(|| client::get(probe.addr, "/livez").is_none(), |gone| *gone);
    probe.signal("-TERM");
    let (status, log, took) = probe.end();
    assert_eq!(status.code(), Some(143), "{log}");
    assert!(took < END, "{took:?}: {log}");
    drop(slow);
}

#[test]
fn an_address_in_use_ends_the_process_with_one_line_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for format in ["json", "pretty"] {
        let output = probe(&[MEMORY, NO_BROKER, ("HTTP_ADDR", &addr), ("LOG_FORMAT", format)]).output().unwrap();
        let line = said(&output);
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains("HTTP_ADDR: cannot listen"), "{line}");
    }
}

#[test]
fn a_database_that_can_never_work_ends_the_process_with_exit_code_1() {
    let output = probe(&[("DATABASE_URL", "sqlite:///dev/null/x.db"), NO_BROKER, ANY]).output();
    let output = output.unwrap();
    let log = said(&output);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("DATABASE_URL: "), "{log}");
}

#[test]
fn secrets_are_never_shown() {
    let file = std::env::temp_dir().join(format!("saga-secret-{}", std::process::id()));
    std::fs::write(&file, "hunter2\n").unwrap();
    for protocol in ["http/protobuf", "grpc"] {
        let collector = Collector::start().unwrap();
        // A path or a query is no part of an endpoint over gRPC.
        let endpoint = match protocol {
            "grpc" => collector.endpoint(),
            _ => format!("{}/v1/traces?key=hunter2", collector.endpoint()),
        };
        let probe = Probe::start(&[
            NO_DATABASE,
            NO_BROKER,
            ("RUST_LOG", "trace"),
            ("KAFKA_CFG_SASL_PASSWORD_FILE", file.to_str().unwrap()),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hunter2"),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ]);
        let ready = wait_for(|| client::get(probe.addr, "/readyz").unwrap().body, |body| body.contains("refused"));
        client::get(probe.addr, "/plain");
        let sent = wait_for(|| collector.requests(), |requests| !requests.is_empty());
        assert_eq!(sent[0]["x-key"], "hunter2");
        probe.signal("-TERM");
        let (_, log, _) = probe.end();
        assert!(log.contains("configuration") && log.contains("sasl.password"), "{log}");
        assert!(!log.contains("hunter2") && !ready.contains("hunter2"), "{protocol}: {log}");
    }
    std::fs::remove_file(file).unwrap();
}

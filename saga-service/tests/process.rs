//! A service as a process: its settings, its one line about a wrong one, its signals and its exit code.
#![allow(clippy::unwrap_used, reason = "a test that fails")]
#![cfg(unix)]

mod common;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use common::{client, eventually};
use saga_service::testing::{Answer, Collector};

type Variable = (&'static str, &'static str);

const NO_BROKER: Variable = ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1");
const NO_DATABASE: Variable = ("DATABASE_URL", "postgres://nobody:hunter2@127.0.0.1:1/nothing");
const ANY: Variable = ("HTTP_ADDR", "127.0.0.1:0");
/// Within this time a process that was told to stop has ended, whatever it waits for.
const END: Duration = Duration::from_secs(10);
const MEMORY: Variable = ("DATABASE_URL", "sqlite::memory:");

/// The example that is built beside the tests.
fn probe(variables: &[(&str, &str)]) -> Command {
    let deps = std::env::current_exe().unwrap();
    let path: PathBuf = deps.ancestors().nth(2).unwrap().join("examples/probe");
    assert!(path.exists(), "build it first: cargo build -p saga-service --example probe");
    let mut command = Command::new(path);
    command.env_clear().envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A probe that has as few places for connections as there can be.
fn narrow(variables: &[(&str, &str)]) -> Command {
    let probe = probe(variables);
    let mut command = Command::new("sh");
    // Set before, since what is left to other things is more than this.
    command.args(["-c", "ulimit -n 300; exec \"$0\""]).arg(probe.get_program());
    command.env_clear().envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// As many places as [`narrow`] leaves.
const PLACES: usize = 64;

/// A probe that listens, and is killed when the test fails.
struct Probe {
    child: Option<Child>,
    addr: SocketAddr,
}

impl Probe {
    fn start(variables: &[(&str, &str)]) -> Self {
        Self::spawn(probe(variables))
    }

    fn spawn(mut command: Command) -> Self {
        let addr = free_address();
        let child = command.env("HTTP_ADDR", addr.to_string()).spawn().unwrap();
        let probe = Self { child: Some(child), addr };
        eventually(|| client::get(addr, "/livez").map(|a| a.status), |status| *status == Some(200));
        probe
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Its exit status, what it logged, and how long it took to end.
    fn end(mut self) -> (ExitStatus, String, Duration) {
        let started = Instant::now();
        let mut child = self.child.take().unwrap();
        let mut log = String::new();
        child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (child.wait().unwrap(), log, started.elapsed())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

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
    eventually(|| client::get(probe.addr, "/readyz").unwrap().body, |body| body.contains("refused"));
    probe.signal("-TERM");
    let (status, log, took) = probe.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(took < END, "{took:?}: {log}");
}

#[test]
fn sigterm_while_the_broker_is_away_ends_the_process_promptly_with_exit_code_0() {
    let probe = Probe::start(&[MEMORY, NO_BROKER]);
    eventually(|| client::get(probe.addr, "/readyz").unwrap().body, |body| body.contains("127.0.0.1:1"));
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
    eventually(|| client::get(probe.addr, "/readyz").unwrap().body, |body| !body.contains("database"));
    let slow = client::open(probe.addr, "GET /slow HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(client::get(probe.addr, "/livez").unwrap().status, 200);
    probe.signal("-TERM");
    eventually(|| client::get(probe.addr, "/livez").is_none(), |gone| *gone);
    probe.signal("-TERM");
    let (status, log, took) = probe.end();
    assert_eq!(status.code(), Some(143), "{log}");
    assert!(took < END, "{took:?}: {log}");
    drop(slow);
}

#[test]
fn a_request_that_does_not_end_cannot_hold_the_process() {
    let probe = Probe::start(&[MEMORY, NO_BROKER]);
    eventually(|| client::get(probe.addr, "/readyz").unwrap().body, |body| !body.contains("database"));
    let slow = client::open(probe.addr, "GET /slow HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(client::get(probe.addr, "/livez").unwrap().status, 200);
    probe.signal("-TERM");
    let (status, log, took) = probe.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(took < END, "{took:?}: {log}");
    assert!(log.contains("requests did not end in time"), "{log}");
    drop(slow);
}

/// Asks for the metrics again and again, and never reads them.
fn deaf(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let requests = "GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n".repeat(100);
    // The other side may have had enough before the end.
    let _ = stream.write_all(requests.as_bytes());
    stream
}

/// How often metrics were asked for before, however that was answered.
fn scrapes(metrics: &str) -> u64 {
    let counts = metrics.lines().filter(|line| line.starts_with("http_server_request_duration_seconds_count"));
    let scrapes = counts.filter(|line| line.contains("http_route=\"/metrics\""));
    scrapes.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[test]
fn with_every_place_held_by_clients_that_do_not_read_probes_and_requests_are_answered_and_sigterm_ends_the_process() {
    let probe = Probe::spawn(narrow(&[MEMORY, NO_BROKER]));
    eventually(|| client::get(probe.addr, "/readyz").unwrap().body, |body| !body.contains("database"));
    let addr = probe.addr;
    let deaf: Vec<_> = (0..PLACES + 10).map(|_| std::thread::spawn(move || deaf(addr))).collect();
    let deaf: Vec<_> = deaf.into_iter().map(|thread| thread.join().unwrap()).collect();
    let quickly = |answer: &dyn Fn() -> Option<client::Answer>| {
        let asked = Instant::now();
        let answer = answer().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        answer.status
    };
    // Until the service has written all that fits into the buffers of those who do not read it, and only we are answered.
    let scraped = || client::get(addr, "/metrics").map_or(0, |metrics| scrapes(&metrics.body));
    eventually(|| (scraped(), scraped()), |(before, after)| *before > 0 && *after == before + 1);
    for _ in 0..10 {
        assert_eq!(quickly(&|| client::get(addr, "/livez")), 200);
        assert_eq!(quickly(&|| client::get(addr, "/readyz/http")), 200);
        assert_eq!(quickly(&|| client::post(addr, "/ask", "application/json", b"")), 202);
    }
    probe.signal("-TERM");
    let (status, log, took) = probe.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(took < END, "{took:?}: {log}");
    drop(deaf);
}

#[test]
fn with_every_place_held_by_clients_that_say_nothing_a_probe_is_answered() {
    let probe = Probe::spawn(narrow(&[NO_DATABASE, NO_BROKER]));
    let silent: Vec<_> = (0..PLACES * 3).map(|_| client::open(probe.addr, "GET /livez HT")).collect();
    let asked = Instant::now();
    assert_eq!(client::get(probe.addr, "/livez").unwrap().status, 200);
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    drop(silent);
}

#[test]
fn after_sigterm_a_service_is_not_ready_and_answers_until_its_grace_is_over() {
    let grace = Duration::from_secs(2);
    let probe = Probe::start(&[MEMORY, NO_BROKER, ("SHUTDOWN_GRACE", "2s")]);
    eventually(|| client::get(probe.addr, "/readyz/http").unwrap().status, |status| *status == 200);
    let began = Instant::now();
    probe.signal("-TERM");
    let stopping = |path| client::get(probe.addr, path).unwrap();
    eventually(|| stopping("/readyz/http").body, |body| body.contains("shutdown"));
    let readyz = stopping("/readyz");
    assert!(readyz.status == 503 && readyz.body.contains("shutdown: stopping"), "{readyz:?}");
    assert_eq!(stopping("/livez").status, 200);
    let asked = client::post(probe.addr, "/ask", "application/json", b"").unwrap();
    assert_eq!(asked.status, 202);
    assert!(asked.head.to_ascii_lowercase().contains("connection: close"), "{asked:?}");
    let (status, log, _) = probe.end();
    assert_eq!(status.code(), Some(0), "{log}");
    let took = began.elapsed();
    assert!(took >= grace && took < grace + END, "{took:?}: {log}");
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
    let collector = Collector::start().unwrap();
    let probe = Probe::start(&[
        NO_DATABASE,
        NO_BROKER,
        ("RUST_LOG", "trace"),
        ("KAFKA_CFG_SASL_PASSWORD_FILE", file.to_str().unwrap()),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &format!("{}/v1/traces?key=hunter2", collector.endpoint())),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hunter2"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
    ]);
    let ready = eventually(|| client::get(probe.addr, "/readyz").unwrap().body, |body| body.contains("refused"));
    client::get(probe.addr, "/plain");
    let sent = eventually(|| collector.requests(), |requests| !requests.is_empty());
    assert_eq!(sent[0]["x-key"], "hunter2");
    probe.signal("-TERM");
    let (_, log, _) = probe.end();
    assert!(log.contains("configuration") && log.contains("sasl.password"), "{log}");
    assert!(!log.contains("hunter2") && !ready.contains("hunter2"), "{log}");
}

#[test]
fn telemetry_that_is_set_up_wrongly_is_warned_of_and_stops_nothing() {
    let names =
        ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_TRACES_SAMPLER", "OTEL_PROPAGATORS"];
    let mut variables = vec![MEMORY, NO_BROKER, ("LOG_FORMAT", "json")];
    variables.extend(names.map(|name| (name, "hunter2")));
    let probe = Probe::start(&variables);
    probe.signal("-TERM");
    let (status, log, _) = probe.end();
    assert_eq!(status.code(), Some(0), "{log}");
    for name in names {
        let warned = log.lines().filter(|line| line.contains("WARN") && line.contains(&format!("\"{name}: ")));
        assert_eq!(warned.count(), 1, "{name}: {log}");
    }
    assert!(!log.contains("hunter2"), "{log}");
}

const PARENT: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";

/// A request that brings a trace with it.
fn ask_traced(addr: SocketAddr) -> u16 {
    let head = format!("POST /ask HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{PARENT}content-length: 0\r\n\r\n");
    client::send(addr, &head, b"").unwrap().status
}

#[test]
fn the_span_of_a_request_reaches_the_collector_before_the_process_ends() {
    let collector = Collector::start().unwrap();
    let endpoint = collector.endpoint();
    let probe = Probe::start(&[MEMORY, NO_BROKER, ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    eventually(|| ask_traced(probe.addr), |status| *status == 202);
    probe.signal("-TERM");
    let (status, log, _) = probe.end();
    assert_eq!(status.code(), Some(0), "{log}");
    let spans = collector.spans();
    let named: Vec<_> = spans.iter().filter(|span| span.name == "POST /ask").collect();
    let last = named.last().unwrap_or_else(|| panic!("{spans:?}"));
    assert_eq!(last.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!((last.parent_id.as_deref(), last.kind.as_str()), (Some("00f067aa0ba902b7"), "SPAN_KIND_SERVER"));
    assert_eq!(last.attributes["http.response.status_code"], "202");
    assert_eq!(last.resource["service.name"], "probe-service");
}

#[test]
fn a_collector_that_does_not_answer_does_not_hold_the_process() {
    let collector = Collector::start().unwrap();
    collector.answer(Answer::Hang);
    let endpoint = collector.endpoint();
    let probe = Probe::start(&[
        MEMORY,
        NO_BROKER,
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
    ]);
    eventually(|| ask_traced(probe.addr), |status| *status == 202);
    eventually(|| collector.requests().len(), |requests| *requests == 1);
    probe.signal("-TERM");
    let (status, log, took) = probe.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(took < END, "{took:?}: {log}");
}

#[test]
fn a_collector_that_is_away_is_told_of_once() {
    let probe = Probe::start(&[
        MEMORY,
        NO_BROKER,
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1/?key=hunter2"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ("LOG_FORMAT", "json"),
    ]);
    let lost = || !client::get(probe.addr, "/metrics").unwrap().body.contains("\nsaga_spans_lost_total 0\n");
    eventually(|| ask_traced(probe.addr), |status| *status == 202);
    eventually(lost, |lost| *lost);
    for _ in 0..10 {
        ask_traced(probe.addr);
    }
    probe.signal("-TERM");
    let (_, log, _) = probe.end();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let about: Vec<_> = lines.iter().filter(|line| line.to_string().contains("traces cannot be exported")).collect();
    assert_eq!(about.len(), 1, "{log}");
    assert!(about[0]["message"].as_str().unwrap().contains("OTEL_TRACES_EXPORTER=none"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
    assert!(lines.iter().any(|line| line["service"] == "probe" && line["message"] == "stopped"), "{log}");
}

#[test]
fn a_line_that_a_request_causes_names_the_service_and_the_trace() {
    let off = ("OTEL_SDK_DISABLED", "true");
    let probe = Probe::start(&[MEMORY, NO_BROKER, off, ("LOG_FORMAT", "json"), ("RUST_LOG", "error")]);
    eventually(|| client::get(probe.addr, "/readyz").unwrap().body, |body| !body.contains("database"));
    let head = format!("GET /panic HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{PARENT}\r\n");
    assert_eq!(client::send(probe.addr, &head, b"").unwrap().status, 500);
    probe.signal("-TERM");
    let (_, log, _) = probe.end();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let panicked = lines.iter().find(|line| line["message"].as_str().unwrap().starts_with("panicked"));
    let panicked = panicked.unwrap_or_else(|| panic!("{log}"));
    assert_eq!(panicked["service"], "probe");
    assert_eq!(panicked["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
}

//! A running service as its callers see it: readiness, problem documents, a stop in good order.
#![allow(clippy::unwrap_used, reason = "a test that fails")]

mod common;

use std::{net::SocketAddr, thread::JoinHandle};

use common::{
    client::{self, get, post},
    probe::{ProbeArgs, probe},
    wait_for,
};
use saga_kafka::{EmbeddedBroker, KafkaConfig};
use saga_service::{Config, ServiceError, config::TraceConfig, testing::Collector};
use tokio::sync::oneshot;

/// Nobody ever listens on port 1.
const NO_BROKER: &str = "127.0.0.1:1";
const NO_DATABASE: &str = "postgres://nobody@127.0.0.1:1/nothing";

struct Running {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), ServiceError>>>,
}

impl Running {
    fn start(database: &str, kafka: KafkaConfig) -> Self {
        Self::start_traced(database, kafka, TraceConfig::default())
    }

    fn start_traced(database: &str, kafka: KafkaConfig, trace: TraceConfig) -> Self {
        Self::start_as(database, kafka, |config| config.trace = trace)
    }

    fn start_as(database: &str, kafka: KafkaConfig, change: impl FnOnce(&mut Config<ProbeArgs>)) -> Self {
        let http_addr = "127.0.0.1:0".parse().unwrap();
        let mut config = Config::new(http_addr, database.parse().unwrap(), kafka, ProbeArgs::default());
        change(&mut config);
        let (stop, told) = oneshot::channel::<()>();
        let (tell, addr) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let result = runtime.block_on(async {
                let bound = probe().bind(config).await?;
                tell.send(bound.local_addr()?).unwrap();
                bound.run(async { drop(told.await) }).await
            });
            runtime.shutdown_background();
            result
        });
        Self { addr: addr.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
    }

    fn waiting_for(&self) -> (u16, String) {
        let answer = get(self.addr, "/readyz").unwrap();
        assert_eq!(answer.json()["ready"], answer.status == 200);
        (answer.status, answer.json()["waiting_for"].to_string())
    }

    fn stop(mut self) -> Result<(), ServiceError> {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap()
    }
}

fn without_broker() -> Running {
    let running = Running::start("sqlite::memory:", KafkaConfig::new(NO_BROKER));
    wait_for(|| running.waiting_for().1, |waiting| !waiting.contains("database"));
    running
}

#[test]
fn a_service_is_alive_and_not_ready_while_its_database_is_away() {
    let running = Running::start(NO_DATABASE, KafkaConfig::new(NO_BROKER));
    assert_eq!(get(running.addr, "/livez").unwrap().status, 200);
    let (status, waiting) = running.waiting_for();
    assert_eq!(status, 503);
    assert!(waiting.contains("database: ") && waiting.contains("broker: "), "{waiting}");
    wait_for(|| running.waiting_for().1, |waiting| waiting.contains("unavailable") || waiting.contains("refused"));
    let refused = post(running.addr, "/ask", "application/json", b"").unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.is_problem(), "{refused:?}");
    assert_eq!(get(running.addr, "/metrics").unwrap().status, 200);
    running.stop().unwrap();
}

#[test]
fn a_service_works_while_its_broker_is_away_and_says_what_it_waits_for() {
    let running = without_broker();
    let (status, waiting) = wait_for(|| running.waiting_for(), |(_, waiting)| waiting.contains("127.0.0.1:1"));
    assert_eq!(status, 503);
    assert!(waiting.contains("broker: "), "{waiting}");
    assert_eq!(post(running.addr, "/ask", "application/json", b"").unwrap().status, 202);
    let text = get(running.addr, "/metrics").unwrap().body;
    assert!(text.contains("\nsaga_outbox_pending 1\n") && text.contains("\nsaga_tables_readable 1\n"), "{text}");
    running.stop().unwrap();
}

#[test]
fn a_service_becomes_ready_and_publishes_what_was_accepted() {
    let broker = EmbeddedBroker::start(&["probe.events", "probe.dlq"], 3).unwrap();
    let running = Running::start("sqlite::memory:", broker.config());
    wait_for(|| running.waiting_for(), |(status, _)| *status == 200);
    assert_eq!(post(running.addr, "/ask", "application/json", b"").unwrap().status, 202);
    let metrics = || get(running.addr, "/metrics").unwrap().body;
    // The question, and the answer that the participant gave.
    wait_for(metrics, |text| text.contains("saga_events_published_total 2"));
    wait_for(metrics, |text| text.contains("saga_outbox_pending 0"));
    running.stop().unwrap();
}

/// How many partitions the service has.
fn partitions(running: &Running) -> usize {
    let metrics = get(running.addr, "/metrics").unwrap().body;
    metrics.lines().filter(|line| line.starts_with("saga_consumer_lag{")).count()
}

#[test]
fn a_member_of_the_group_for_which_there_is_no_partition_is_ready() {
    let broker = EmbeddedBroker::start(&["probe.events", "probe.dlq"], 1).unwrap();
    let members = [(); 2].map(|()| Running::start("sqlite::memory:", broker.config()));
    for member in &members {
        wait_for(|| member.waiting_for(), |(status, _)| *status == 200);
    }
    wait_for(|| members.iter().map(partitions).sum::<usize>(), |partitions| *partitions == 1);
    for member in members {
        member.stop().unwrap();
    }
}

#[test]
fn while_a_service_that_stops_still_answers_its_partitions_are_somebody_elses_already() {
    let broker = EmbeddedBroker::start(&["probe.events", "probe.dlq"], 3).unwrap();
    let grace = std::time::Duration::from_secs(15);
    let mut leaves = Running::start_as("sqlite::memory:", broker.config(), |config| config.shutdown_grace = grace);
    let stays = Running::start("sqlite::memory:", broker.config());
    for member in [&leaves, &stays] {
        wait_for(|| member.waiting_for(), |(status, _)| *status == 200);
    }
    wait_for(|| partitions(&leaves), |partitions| *partitions > 0);
    drop(leaves.stop.take());
    wait_for(|| partitions(&stays), |partitions| *partitions == 3);
    assert_eq!(get(leaves.addr, "/livez").unwrap().status, 200);
    assert_eq!(get(leaves.addr, "/readyz/http").unwrap().status, 503);
    assert_eq!(post(leaves.addr, "/ask", "application/json", b"").unwrap().status, 202);
    wait_for(|| get(stays.addr, "/metrics").unwrap().body, |text| text.contains("saga_events_published_total 1"));
    stays.stop().unwrap();
    leaves.stop().unwrap();
}

#[test]
fn every_bad_request_is_answered_with_a_problem_document() {
    let running = without_broker();
    let json = "application/json";
    let deep = format!("{{\"x\": {}", "[".repeat(10_000));
    let huge = vec![b' '; 2 << 20];
    let wrong = br#"{"items": [{"sku": "secret", "quantity": "secret"}]}"#;
    let cases: [(&str, u16, &str, &[u8]); 10] = [
        ("2 MB", 413, json, &huge),
        ("2 MB of something else", 415, "text/plain", &huge),
        ("bad UTF-8", 400, json, b"{\"items\": \"\xff\xfe\"}"),
        ("10,000 deep", 400, json, deep.as_bytes()),
        ("not JSON", 400, json, b"items=1"),
        ("nothing", 400, json, b""),
        ("another content type", 415, "application/x-www-form-urlencoded", b"{\"items\": []}"),
        ("almost the content type", 415, "application/jsonp", b"{\"items\": []}"),
        ("another shape", 422, "application/json; charset=utf-8", wrong),
        ("a missing field", 422, "APPLICATION/JSON", b"{}"),
    ];
    for (what, status, content_type, body) in cases {
        let answer = post(running.addr, "/echo", content_type, body).unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(answer.is_problem(), "{what}: {answer:?}");
        assert!(!answer.body.contains("secret"), "{what}: {answer:?}");
    }
    let chunked = "POST /echo HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\n\
                   transfer-encoding: chunked\r\n\r\n";
    let body = [b"100000\r\n".to_vec(), vec![b' '; 1 << 20], b"\r\n0\r\n\r\n".to_vec()].concat();
    assert_eq!(client::send(running.addr, chunked, &body).unwrap().status, 413);
    for (status, headers) in [
        (415, "content-type: application/json\r\ncontent-encoding: gzip"),
        (400, "content-type: application/json\r\ncontent-type: application/json"),
        (200, "content-type: application/json\r\ncontent-encoding: identity"),
    ] {
        let head =
            format!("POST /echo HTTP/1.1\r\nhost: t\r\nconnection: close\r\n{headers}\r\ncontent-length: 13\r\n\r\n");
        let answer = client::send(running.addr, &head, br#"{"items": []}"#).unwrap();
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.is_problem(), status != 200, "{answer:?}");
        assert_eq!(answer.head.to_ascii_lowercase().contains("accept-encoding: identity"), status == 415, "{answer:?}");
    }
    let good = post(running.addr, "/echo", "application/json;charset=utf-8", br#"{"items": []}"#).unwrap();
    assert_eq!((good.status, good.body.as_str()), (200, r#"{"items":[]}"#));
    running.stop().unwrap();
}

#[test]
fn what_the_router_refuses_is_a_problem_document_too() {
    let running = without_broker();
    for (path, status) in [("/nothing", 404), ("/things/x", 400), ("/echo", 405), ("/plain", 418), ("/panic", 500)] {
        let answer = get(running.addr, path).unwrap();
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.is_problem(), "{answer:?}");
    }
    assert!(get(running.addr, "/echo").unwrap().head.to_ascii_lowercase().contains("allow: post"));
    let posted = post(running.addr, "/livez", "text/plain", b"").unwrap();
    assert!(posted.status == 405 && posted.is_problem(), "{posted:?}");
    running.stop().unwrap();
}

#[test]
fn a_request_in_flight_is_finished_before_the_service_ends() {
    let running = without_broker();
    let head =
        "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{\"items\"";
    let mut stream = client::open(running.addr, head).unwrap();
    // It is in flight once the server has read its head: a request on a later connection is answered after it.
    assert_eq!(get(running.addr, "/livez").unwrap().status, 200);
    let addr = running.addr;
    let stopped = std::thread::spawn(move || running.stop());
    wait_for(|| get(addr, "/livez").is_none(), |gone| *gone);
    std::io::Write::write_all(&mut stream, b": []}").unwrap();
    assert_eq!(client::read(&mut stream).unwrap().status, 200);
    stopped.join().unwrap().unwrap();
}

#[test]
fn an_address_in_use_names_the_variable_to_change() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().into();
    let database = "sqlite::memory:".parse().unwrap();
    let config = Config::new(addr, database, KafkaConfig::new(NO_BROKER), ProbeArgs::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(probe().run_until(config, std::future::pending())).unwrap_err();
    assert!(error.to_string().starts_with("HTTP_ADDR: "), "{error}");
    assert_eq!(error.exit_code(), 1);
}

/// Prometheus' own checker, when it is installed.
fn promtool(text: &str) -> Option<std::process::Output> {
    use std::process::{Command, Stdio};
    let mut promtool = Command::new("promtool");
    let spawned =
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match spawned.spawn() {
        Ok(child) => child,
        Err(error) => {
            let required = std::env::var("SAGA_REQUIRE_LIVE").is_ok_and(|required| required == "1");
            assert!(!required, "promtool: {error}; it comes with Prometheus");
            return None;
        }
    };
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    Some(child.wait_with_output().unwrap())
}

#[test]
fn prometheus_finds_no_fault_with_the_metrics_of_a_running_service() {
    let broker = EmbeddedBroker::start(&["probe.events", "probe.dlq"], 3).unwrap();
    let collector = Collector::start().unwrap();
    let trace = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()), ("OTEL_BSP_SCHEDULE_DELAY", "1".to_owned())];
    let trace = TraceConfig::of(trace.map(|(name, value)| (name.into(), value.into()))).unwrap();
    let running = Running::start_traced("sqlite::memory:", broker.config(), trace);
    wait_for(|| running.waiting_for(), |(status, _)| *status == 200);
    assert_eq!(post(running.addr, "/ask", "application/json", b"").unwrap().status, 202);
    let metrics = || get(running.addr, "/metrics").unwrap().body;
    wait_for(metrics, |text| text.contains("saga_events_published_total 2"));
    let text =
        wait_for(metrics, |text| text.contains("saga_consumer_lag{") && !text.contains("saga_spans_exported_total 0"));
    for line in [
        "# TYPE saga_events_handled_total counter",
        "# TYPE saga_spans_lost_total counter",
        "# TYPE http_server_request_duration_seconds histogram",
    ] {
        assert!(text.lines().any(|written| written == line), "{line} is not in {text}");
    }
    assert!(!text.contains("# UNIT") && !text.contains("# EOF"), "{text}");
    if let Some(checked) = promtool(&text) {
        let said = [checked.stdout, checked.stderr].concat();
        assert!(checked.status.success() && said.is_empty(), "{}\n{text}", String::from_utf8_lossy(&said));
    }
    running.stop().unwrap();
}

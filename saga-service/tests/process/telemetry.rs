//! What a service exports and logs, and a collector that is set up wrongly, deaf or away.

use std::{net::SocketAddr, process::Command};

use saga_service::testing::{Answer, Collector};

use crate::{
    child::{END, MEMORY, NO_BROKER, Probe, probe},
    common::{client, wait_for},
};

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

/// A process with this collector and these variables, which is asked once and then ended.
fn ask_one(collector: &Collector, variables: &[(&str, &str)]) {
    let endpoint = collector.endpoint();
    let of_all = [MEMORY, NO_BROKER, ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)];
    let probe = Probe::start(&[&of_all, variables].concat());
    wait_for(|| ask_traced(probe.addr), |status| *status == 202);
    probe.signal("-TERM");
    let (status, log, _) = probe.end();
    assert_eq!(status.code(), Some(0), "{log}");
}

/// Over each of them the same is promised.
const PROTOCOLS: [&str; 3] = ["http/protobuf", "http/json", "grpc"];

#[test]
fn the_span_of_a_request_reaches_the_collector_before_the_process_ends() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().unwrap();
        ask_one(&collector, &[("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)]);
        let spans = collector.spans();
        let named: Vec<_> = spans.iter().filter(|span| span.name == "POST /ask").collect();
        let last = named.last().unwrap_or_else(|| panic!("{protocol}: {spans:?}"));
        assert_eq!(last.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((last.parent_id.as_deref(), last.kind.as_str()), (Some("00f067aa0ba902b7"), "SPAN_KIND_SERVER"));
        assert_eq!(last.attributes["http.response.status_code"], "202");
        assert_eq!(last.resource["service.name"], "probe-service");
    }
}

#[test]
fn what_the_variables_of_the_opentelemetry_crates_say_is_what_is_sent() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().unwrap();
        let variables = [
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_RESOURCE_ATTRIBUTES", "host.name=h,service.name=overridden"),
            ("OTEL_SERVICE_NAME", "shop"),
        ];
        ask_one(&collector, &variables);
        let (requests, spans) = (collector.requests(), collector.spans());
        assert_eq!(requests[0]["x-tenant"], "a b", "{protocol}");
        let encoding = if protocol == "grpc" { "grpc-encoding" } else { "content-encoding" };
        assert_eq!(requests[0][encoding], "gzip", "{protocol}");
        assert_eq!(
            (&*spans[0].resource["host.name"], &*spans[0].resource["service.name"]),
            ("h", "shop"),
            "{protocol}"
        );
    }
}

/// The command, on one core, as in a small container.
fn on_one_core(command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", "0"]).arg(command.get_program()).env_clear();
    pinned.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    pinned.env("PATH", std::env::var_os("PATH").unwrap());
    pinned.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    pinned
}

#[test]
fn on_one_core_the_last_spans_are_sent_and_a_deaf_collector_holds_nothing() {
    for protocol in PROTOCOLS {
        for answer in [Answer::Take, Answer::Hang] {
            let collector = Collector::start().unwrap();
            collector.answer(answer);
            let endpoint = collector.endpoint();
            let probe = Probe::spawn(on_one_core(&probe(&[
                MEMORY,
                NO_BROKER,
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                // All of them at the end.
                ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
            ])));
            wait_for(|| ask_traced(probe.addr), |status| *status == 202);
            for _ in 0..20 {
                assert_eq!(ask_traced(probe.addr), 202);
            }
            probe.signal("-TERM");
            let (status, log, took) = probe.end();
            assert_eq!(status.code(), Some(0), "{protocol} {answer:?}: {log}");
            assert!(took < END, "{protocol} {answer:?} {took:?}: {log}");
            let asked = collector.spans().iter().filter(|span| span.name == "POST /ask").count();
            let expected = if answer == Answer::Take { 21 } else { 0 };
            assert!(asked >= expected && collector.requests().len() == 1, "{protocol} {answer:?} {asked}: {log}");
        }
    }
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
    wait_for(|| ask_traced(probe.addr), |status| *status == 202);
    wait_for(|| collector.requests().len(), |requests| *requests == 1);
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
    wait_for(|| ask_traced(probe.addr), |status| *status == 202);
    wait_for(lost, |lost| *lost);
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
    wait_for(|| client::get(probe.addr, "/readyz").unwrap().body, |body| !body.contains("database"));
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

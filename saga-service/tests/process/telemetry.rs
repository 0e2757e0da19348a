//! What a service exports and logs, and a collector that is set up wrongly, deaf or away.

use std::net::SocketAddr;

use saga_service::testing::{Answer, Collector};

use crate::{
    child::{END, MEMORY, NO_BROKER, Probe},
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

#[test]
fn the_span_of_a_request_reaches_the_collector_before_the_process_ends() {
    let collector = Collector::start().unwrap();
    let endpoint = collector.endpoint();
    let probe = Probe::start(&[MEMORY, NO_BROKER, ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    wait_for(|| ask_traced(probe.addr), |status| *status == 202);
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

//! Places by every sampler, and spans on their way to a collector that is good, bad, or not there.

mod tls;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use saga_core::trace::Kind;
use saga_test_support::wait_for;

use super::*;
use crate::testing::{Answer, Collector};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const TRACE: u128 = 0x4bf92f3577b34da6a3ce929d0e0e4736;
/// Nobody ever listens on port 1.
const NOBODY: &str = "http://127.0.0.1:1";
/// No collector answers so slowly in a test.
const PATIENCE: Duration = Duration::from_secs(20);

const PROTOCOLS: [&str; 3] = ["http/protobuf", "http/json", "grpc"];

fn tracer(variables: &[(&str, &str)]) -> OtlpTracer {
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    OtlpTracer::start(&TraceConfig::of(variables).unwrap(), "probe").unwrap().unwrap()
}

/// Sends every span at once.
fn to(endpoint: &str, protocol: &str, more: &[(&str, &str)]) -> OtlpTracer {
    let mut variables = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
    ];
    variables.extend(more);
    tracer(&variables)
}

/// Keeps them until it is shut down.
fn at_the_end_to(endpoint: &str, protocol: &str) -> OtlpTracer {
    to(endpoint, protocol, &[("OTEL_BSP_SCHEDULE_DELAY", "600000")])
}

fn sampled_by(sampler: &str) -> OtlpTracer {
    tracer(&[("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", "0.5")])
}

fn context(traceparent: &str) -> TraceContext {
    TraceContext { traceparent: Some(traceparent.to_owned()), tracestate: Some("a=1".to_owned()) }
}

fn span(ids: Ids) -> Span {
    let now = Timestamp::now();
    Span {
        ids,
        kind: Kind::Consumer,
        name: "process order.events".into(),
        start: now - Duration::from_millis(5),
        end: now,
        attributes: vec![("messaging.system", "kafka".into()), ("messaging.kafka.offset", 7.into())],
        links: vec![context(PARENT), TraceContext::default()],
        error: None,
    }
}

/// Records a span of a new trace, if it is to be recorded.
fn record(tracer: &OtlpTracer) -> bool {
    let ids = tracer.new_span(&TraceContext::default(), 0).ids;
    ids.map(|ids| tracer.record(span(ids))).is_some()
}

fn shutdown_takes(tracer: &OtlpTracer) -> Duration {
    let started = Instant::now();
    tracer.shutdown(Duration::from_millis(500));
    started.elapsed()
}

#[test]
fn below_a_parent_a_place_is_a_child_in_the_same_trace() {
    let span = sampled_by("parentbased_always_off").new_span(&context(PARENT), 1);
    let ids = span.ids.unwrap();
    assert_eq!((u128::from_be_bytes(ids.trace_id), ids.parent_id), (TRACE, Some(0x00f067aa0ba902b7_u64.to_be_bytes())));
    let handed_on = Traceparent::parse(span.context.traceparent.as_deref().unwrap()).unwrap();
    assert_eq!((handed_on.trace_id, handed_on.span_id, handed_on.sampled()), (ids.trace_id, ids.span_id, true));
    assert_ne!(Some(ids.span_id), ids.parent_id);
    assert_eq!(span.context.tracestate.as_deref(), Some("a=1"));
}

#[test]
fn what_a_parent_does_not_record_is_handed_on_as_it_came() {
    let span = sampled_by("parentbased_always_on").new_span(&context(UNSAMPLED), 1);
    assert_eq!(span, NewSpan { context: context(UNSAMPLED), ids: None });
    assert!(sampled_by("always_on").new_span(&context(UNSAMPLED), 1).ids.is_some());
}

#[test]
fn what_else_a_parent_says_of_the_trace_is_handed_on() {
    // That its id is random.
    let (random, dropped) = (PARENT.replace("-01", "-03"), PARENT.replace("-01", "-02"));
    let span = sampled_by("always_on").new_span(&context(&random), 1);
    assert!(span.context.traceparent.is_some_and(|text| text.ends_with("-03")));
    assert_eq!(sampled_by("always_off").new_span(&context(&random), 1).context, context(&dropped));
}

#[test]
fn what_is_dropped_here_is_not_recorded_further_on() {
    let span = sampled_by("always_off").new_span(&context(PARENT), 1);
    assert_eq!(span, NewSpan { context: context(UNSAMPLED), ids: None });
}

#[test]
fn a_new_trace_has_the_id_it_is_given_and_a_random_one_otherwise() {
    let tracer = sampled_by("parentbased_always_on");
    let ids = tracer.new_span(&TraceContext::default(), TRACE).ids.unwrap();
    assert_eq!((u128::from_be_bytes(ids.trace_id), ids.parent_id), (TRACE, None));
    assert_ne!(tracer.new_span(&TraceContext::default(), 0).ids.unwrap().trace_id, [0; 16]);
    let malformed = tracer.new_span(&context("00-nonsense"), TRACE);
    assert_eq!((malformed.ids.unwrap().parent_id, malformed.context.tracestate), (None, None));
}

#[test]
fn a_new_trace_that_is_not_recorded_says_so_to_everybody_who_follows() {
    for sampler in ["always_off", "parentbased_always_off"] {
        let span = sampled_by(sampler).new_span(&TraceContext::default(), TRACE);
        let traceparent = Traceparent::parse(span.context.traceparent.as_deref().unwrap()).unwrap();
        assert_eq!((u128::from_be_bytes(traceparent.trace_id), traceparent.sampled()), (TRACE, false), "{sampler}");
        assert_eq!(span.ids, None);
    }
    let half = sampled_by("parentbased_traceidratio");
    assert!(half.new_span(&TraceContext::default(), 0xff_ffff_ffff_ffff).ids.is_some());
    assert!(half.new_span(&TraceContext::default(), 1).ids.is_none());
}

#[test]
fn spans_arrive_with_their_ids_parents_links_and_resource() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().unwrap();
        let tracer = to(&collector.endpoint(), protocol, &[]);
        let new = tracer.new_span(&context(PARENT), 1);
        let ids = new.ids.unwrap();
        tracer.record(Span { error: Some("it failed".to_owned()), ..span(ids) });
        tracer.shutdown(PATIENCE);
        let spans = collector.spans();
        let [arrived] = &spans[..] else { panic!("{protocol}: {spans:?}") };
        assert_eq!(arrived.trace_id, format!("{TRACE:032x}"));
        assert_eq!(arrived.span_id, format!("{:016x}", u64::from_be_bytes(ids.span_id)));
        assert_eq!(arrived.parent_id.as_deref(), Some("00f067aa0ba902b7"));
        assert_eq!((arrived.name.as_str(), arrived.kind.as_str()), ("process order.events", "SPAN_KIND_CONSUMER"));
        assert_eq!(arrived.attributes["messaging.kafka.offset"], "7");
        assert_eq!(arrived.links, [(format!("{TRACE:032x}"), "00f067aa0ba902b7".to_owned())]);
        assert_eq!(arrived.end - arrived.start, 5_000_000);
        assert_eq!(arrived.error.as_deref(), Some("it failed"));
        assert_eq!(arrived.resource["service.name"], "probe-service");
        assert!(
            arrived.resource["service.instance.id"].len() == 36 && arrived.resource.contains_key("service.version")
        );
        assert_eq!((tracer.counters().exported.get(), tracer.counters().lost.get()), (1, 0));
        let content = match protocol {
            "grpc" => "application/grpc",
            "http/json" => "application/json",
            _ => "application/x-protobuf",
        };
        assert_eq!(collector.requests()[0]["content-type"], content);
    }
}

#[test]
fn headers_of_a_file_are_sent_over_every_protocol() {
    let file = std::env::temp_dir().join(format!("saga-otlp-headers-{}", std::process::id()));
    std::fs::write(&file, "x-tenant=a%20b\n").unwrap();
    let headers = ("OTEL_EXPORTER_OTLP_HEADERS_FILE", file.to_str().unwrap());
    for protocol in PROTOCOLS {
        let collector = Collector::start().unwrap();
        let tracer = to(&collector.endpoint(), protocol, &[headers]);
        assert!(record(&tracer));
        tracer.shutdown(PATIENCE);
        assert_eq!(collector.requests()[0]["x-tenant"], "a b", "{protocol}");
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn what_nobody_takes_is_counted_and_contexts_are_handed_on() {
    for protocol in PROTOCOLS {
        let tracer = to(NOBODY, protocol, &[]);
        assert!(record(&tracer));
        wait_for(|| tracer.counters().lost.get(), |lost| *lost == 1);
        let span = tracer.new_span(&context(PARENT), 1);
        assert!(span.context.parse().unwrap().sampled(), "others may record it");
        assert!(shutdown_takes(&tracer) < Duration::from_secs(2), "{protocol}");
    }
}

#[test]
fn a_bad_answer_costs_its_spans_and_holds_up_no_shutdown() {
    for protocol in PROTOCOLS {
        for answer in [Answer::Hang, Answer::Endless, Answer::Refuse(500), Answer::Refuse(429), Answer::Redirect] {
            let collector = Collector::start().unwrap();
            collector.answer(answer);
            let tracer = to(&collector.endpoint(), protocol, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "200")]);
            assert!(record(&tracer), "{protocol} {answer:?}");
            wait_for(|| tracer.counters().lost.get(), |lost| *lost == 1);
            assert!(shutdown_takes(&tracer) < Duration::from_secs(2), "{protocol} {answer:?}");
            assert!(collector.spans().is_empty() && !collector.requests().is_empty(), "{protocol} {answer:?}");
        }
    }
}

#[test]
fn a_collector_that_does_not_answer_holds_up_no_shutdown_and_no_recording() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().unwrap();
        collector.answer(Answer::Hang);
        let size = [("OTEL_BSP_MAX_QUEUE_SIZE", "10"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")];
        let tracer = to(&collector.endpoint(), protocol, &size);
        assert!(record(&tracer));
        wait_for(|| collector.requests().len(), |requests| *requests == 1);
        for _ in 0..1000 {
            assert!(record(&tracer));
        }
        // One is on its way, ten are queued.
        assert_eq!((tracer.queue.tally.queued(), tracer.counters().lost.get()), (10, 990), "{protocol}");
        assert!(shutdown_takes(&tracer) < Duration::from_secs(2), "{protocol}");
        wait_for(|| tracer.counters().lost.get(), |lost| *lost == 1001);
        assert!(record(&tracer));
        assert_eq!(tracer.counters().lost.get(), 1002, "{protocol}: what comes too late is lost");
    }
}

#[test]
fn stopped_in_the_middle_it_leaves_no_span_uncounted() {
    let collector = Collector::start().unwrap();
    collector.answer(Answer::Hang);
    let one_by_one = [("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")];
    for _ in 0..300 {
        let tracer = to(&collector.endpoint(), "http/protobuf", &one_by_one);
        (0..3).for_each(|_| assert!(record(&tracer)));
        tracer.shutdown(Duration::from_millis(1));
        wait_for(|| tracer.counters().lost.get(), |lost| *lost == 3);
    }
}

#[test]
fn the_last_spans_are_sent_when_it_is_shut_down() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().unwrap();
        let tracer = at_the_end_to(&collector.endpoint(), protocol);
        for _ in 0..1500 {
            record(&tracer);
        }
        tracer.shutdown(PATIENCE);
        assert_eq!((collector.spans().len(), tracer.counters().exported.get()), (1500, 1500), "{protocol}");
    }
}

#[test]
fn spans_arrive_again_once_the_collector_is_back() {
    for protocol in PROTOCOLS {
        let addr = Collector::start().unwrap().addr();
        let tracer = to(&format!("http://{addr}"), protocol, &[]);
        assert!(record(&tracer));
        wait_for(|| tracer.counters().lost.get(), |lost| *lost == 1);
        let collector = Collector::start_at(addr).unwrap();
        wait_for(|| record(&tracer) && !collector.spans().is_empty(), |arrived| *arrived);
        wait_for(|| tracer.queue.tally.is_failing(), |failing| !failing);
    }
}

#[test]
fn spans_that_the_collector_rejects_are_lost() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().unwrap();
        collector.answer(Answer::RejectSome(2));
        let tracer = at_the_end_to(&collector.endpoint(), protocol);
        for _ in 0..5 {
            record(&tracer);
        }
        tracer.shutdown(PATIENCE);
        assert_eq!((tracer.counters().exported.get(), tracer.counters().lost.get()), (3, 2), "{protocol}");
    }
}

#[test]
fn a_tracer_can_be_started_and_shut_down_inside_any_runtime() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let tracer = at_the_end_to(&collector.endpoint(), protocol);
            assert!(record(&tracer));
            tracer.shutdown(PATIENCE);
        });
        assert_eq!(collector.spans().len(), 1, "{protocol}");
    }
}

#[test]
#[ignore = "a measurement: cargo test -p saga-service cost_of -- --ignored --nocapture"]
fn cost_of_a_place_of_a_record_and_of_collecting_spans() {
    let tracer = tracer(&[("OTEL_BSP_MAX_QUEUE_SIZE", "1000000"), ("OTEL_BSP_SCHEDULE_DELAY", "600000")]);
    let (parent, rounds) = (context(PARENT), 200_000_u32);
    let mut ids = Vec::new();
    let started = Instant::now();
    ids.extend((0..rounds).filter_map(|_| tracer.new_span(&parent, 1).ids));
    let placed = started.elapsed() / rounds;
    let spans: Vec<_> = ids.into_iter().map(span).collect();
    let started = Instant::now();
    spans.into_iter().for_each(|span| tracer.record(span));
    let recorded = started.elapsed() / rounds;
    let span = tracer.new_span(&parent, 1);
    let started = Instant::now();
    (0..rounds).for_each(|_| drop(tracer.user_spans("take", &[&span])));
    println!("place {placed:?}, record {recorded:?}, collect {:?}", started.elapsed() / rounds);
}

//! Places by every sampler, and spans on their way to a collector that is good, bad, or not there.

mod tls;

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use saga_core::trace::Kind;

use super::*;
use crate::testing::{Answer, Collector};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const TRACE: u128 = 0x4bf92f3577b34da6a3ce929d0e0e4736;
/// Longer than any test takes.
const FOR_GOOD: Duration = Duration::from_secs(3600);
/// Nobody ever listens on port 1.
const NOBODY: &str = "http://127.0.0.1:1";
/// No collector answers so slowly in a test.
const PATIENCE: Duration = Duration::from_secs(20);

fn tracer(variables: &[(&str, &str)], pause: Duration) -> OtlpTracer {
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    OtlpTracer::start(&TraceConfig::of(variables).unwrap(), "probe", pause).unwrap().unwrap()
}

/// Sends every span at once.
fn to(endpoint: &str, pause: Duration, more: &[(&str, &str)]) -> OtlpTracer {
    let mut variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "1")];
    variables.extend(more);
    tracer(&variables, pause)
}

fn sampled_by(sampler: &str) -> OtlpTracer {
    tracer(&[("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", "0.5")], FOR_GOOD)
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
fn tell(tracer: &OtlpTracer) -> bool {
    let ids = tracer.place(&TraceContext::default(), 0).ids;
    ids.map(|ids| tracer.record(span(ids))).is_some()
}

fn eventually<T: Debug>(mut look: impl FnMut() -> T, expected: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if expected(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "still: {seen:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn shutdown_takes(tracer: &OtlpTracer) -> Duration {
    let started = Instant::now();
    tracer.shutdown(Duration::from_millis(500));
    started.elapsed()
}

#[test]
fn below_a_parent_a_place_is_a_child_in_the_same_trace() {
    let place = sampled_by("parentbased_always_off").place(&context(PARENT), 1);
    let ids = place.ids.unwrap();
    assert_eq!((u128::from_be_bytes(ids.trace_id), ids.parent_id), (TRACE, Some(0x00f067aa0ba902b7_u64.to_be_bytes())));
    let handed_on = Traceparent::parse(place.context.traceparent.as_deref().unwrap()).unwrap();
    assert_eq!((handed_on.trace_id, handed_on.span_id, handed_on.sampled()), (ids.trace_id, ids.span_id, true));
    assert_ne!(Some(ids.span_id), ids.parent_id);
    assert_eq!(place.context.tracestate.as_deref(), Some("a=1"));
}

#[test]
fn what_a_parent_does_not_record_is_handed_on_as_it_came() {
    let place = sampled_by("parentbased_always_on").place(&context(UNSAMPLED), 1);
    assert_eq!(place, Place { context: context(UNSAMPLED), ids: None });
    assert!(sampled_by("always_on").place(&context(UNSAMPLED), 1).ids.is_some());
}

#[test]
fn what_else_a_parent_says_of_the_trace_is_handed_on() {
    // That its id is random.
    let (random, dropped) = (PARENT.replace("-01", "-03"), PARENT.replace("-01", "-02"));
    let place = sampled_by("always_on").place(&context(&random), 1);
    assert!(place.context.traceparent.is_some_and(|text| text.ends_with("-03")));
    assert_eq!(sampled_by("always_off").place(&context(&random), 1).context, context(&dropped));
}

#[test]
fn what_is_dropped_here_is_not_recorded_further_on() {
    let place = sampled_by("always_off").place(&context(PARENT), 1);
    assert_eq!(place, Place { context: context(UNSAMPLED), ids: None });
}

#[test]
fn a_new_trace_has_the_id_it_is_given_and_a_random_one_otherwise() {
    let tracer = sampled_by("parentbased_always_on");
    let ids = tracer.place(&TraceContext::default(), TRACE).ids.unwrap();
    assert_eq!((u128::from_be_bytes(ids.trace_id), ids.parent_id), (TRACE, None));
    assert_ne!(tracer.place(&TraceContext::default(), 0).ids.unwrap().trace_id, [0; 16]);
    let malformed = tracer.place(&context("00-nonsense"), TRACE);
    assert_eq!((malformed.ids.unwrap().parent_id, malformed.context.tracestate), (None, None));
}

#[test]
fn a_new_trace_that_is_not_recorded_says_so_to_everybody_who_follows() {
    for sampler in ["always_off", "parentbased_always_off"] {
        let place = sampled_by(sampler).place(&TraceContext::default(), TRACE);
        let traceparent = Traceparent::parse(place.context.traceparent.as_deref().unwrap()).unwrap();
        assert_eq!((u128::from_be_bytes(traceparent.trace_id), traceparent.sampled()), (TRACE, false), "{sampler}");
        assert_eq!(place.ids, None);
    }
    let half = sampled_by("parentbased_traceidratio");
    assert!(half.place(&TraceContext::default(), 0xff_ffff_ffff_ffff).ids.is_some());
    assert!(half.place(&TraceContext::default(), 1).ids.is_none());
}

#[test]
fn spans_arrive_with_their_ids_parents_links_and_resource() {
    let collector = Collector::start().unwrap();
    for more in [
        &[][..],
        &[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"), ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b")],
        &[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=b,host.name=h")],
    ] {
        let before = collector.spans().len();
        let tracer = to(&collector.endpoint(), FOR_GOOD, more);
        let place = tracer.place(&context(PARENT), 1);
        let ids = place.ids.unwrap();
        tracer.record(Span { error: Some("it failed".to_owned()), ..span(ids) });
        tracer.shutdown(PATIENCE);
        let spans = collector.spans();
        let [arrived] = &spans[before..] else { panic!("{spans:?}") };
        assert_eq!(arrived.trace_id, format!("{TRACE:032x}"));
        assert_eq!(arrived.span_id, format!("{:016x}", u64::from_be_bytes(ids.span_id)));
        assert_eq!(arrived.parent_id.as_deref(), Some("00f067aa0ba902b7"));
        assert_eq!((arrived.name.as_str(), arrived.kind.as_str()), ("process order.events", "SPAN_KIND_CONSUMER"));
        assert_eq!(arrived.attributes["messaging.kafka.offset"], "7");
        assert_eq!(arrived.links, [(format!("{TRACE:032x}"), "00f067aa0ba902b7".to_owned())]);
        assert_eq!(arrived.end - arrived.start, 5_000_000);
        assert_eq!(arrived.error.as_deref(), Some("it failed"));
        let named = if more.iter().any(|(_, value)| value.contains("service.name")) { "b" } else { "probe-service" };
        assert_eq!(arrived.resource["service.name"], named);
        assert!(
            arrived.resource["service.instance.id"].len() == 36 && arrived.resource.contains_key("service.version")
        );
        assert_eq!((tracer.counters().exported.get(), tracer.counters().lost.get()), (1, 0));
    }
    let requests = collector.requests();
    assert_eq!(requests[0]["content-type"], "application/x-protobuf");
    assert_eq!(requests[1]["x-tenant"], "a b");
    assert_eq!(requests[2]["content-encoding"], "gzip");
    assert_eq!(collector.spans()[2].resource["host.name"], "h");
}

#[test]
fn while_nobody_takes_spans_none_is_recorded_and_contexts_are_handed_on() {
    let tracer = to(NOBODY, FOR_GOOD, &[]);
    assert!(tell(&tracer));
    eventually(|| tracer.counters().lost.get(), |lost| *lost == 1);
    assert_eq!(tracer.place(&context(PARENT), 1), Place { context: context(PARENT), ids: None });
    let first = tracer.place(&TraceContext::default(), TRACE);
    assert_eq!(first.ids, None);
    tracer.place(&context(UNSAMPLED), 1);
    assert_eq!(tracer.counters().lost.get(), 3, "what is not recorded meanwhile is lost too");
    assert!(Traceparent::parse(&first.context.traceparent.unwrap()).unwrap().sampled(), "others may record it");
    assert!(shutdown_takes(&tracer) < Duration::from_secs(2));
}

#[test]
fn a_collector_that_failed_is_asked_again_with_few_spans() {
    let tracer = to(NOBODY, Duration::ZERO, &[("OTEL_BSP_SCHEDULE_DELAY", "600000")]);
    tracer.flow.failed(0, &"nobody is there");
    assert_eq!((0..1000).filter(|_| tell(&tracer)).count(), 64);
}

#[test]
fn every_kind_of_bad_answer_shuts_the_gate_and_holds_up_no_shutdown() {
    for answer in [Answer::Hang, Answer::Endless, Answer::Refuse(500), Answer::Refuse(429), Answer::Redirect] {
        let collector = Collector::start().unwrap();
        collector.answer(answer);
        let tracer = to(&collector.endpoint(), FOR_GOOD, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "200")]);
        assert!(tell(&tracer), "{answer:?}");
        eventually(|| tracer.counters().lost.get(), |lost| *lost == 1);
        assert!(!tell(&tracer), "{answer:?}");
        assert!(shutdown_takes(&tracer) < Duration::from_secs(2), "{answer:?}");
        assert_eq!(collector.requests().len(), 1, "{answer:?}: nothing is tried again");
    }
}

#[test]
fn a_collector_that_does_not_answer_holds_up_no_shutdown_and_no_recording() {
    let collector = Collector::start().unwrap();
    collector.answer(Answer::Hang);
    let size = [("OTEL_BSP_MAX_QUEUE_SIZE", "10"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")];
    let tracer = to(&collector.endpoint(), FOR_GOOD, &size);
    assert!(tell(&tracer));
    eventually(|| collector.requests().len(), |requests| *requests == 1);
    for _ in 0..1000 {
        assert!(tell(&tracer));
    }
    // One is on its way, ten are queued.
    assert_eq!((tracer.queued(), tracer.counters().lost.get()), (10, 990));
    assert!(shutdown_takes(&tracer) < Duration::from_secs(2));
    assert!(tell(&tracer));
    assert_eq!(tracer.counters().lost.get(), 991, "what comes too late is lost");
}

#[test]
fn the_last_spans_are_sent_when_it_is_shut_down() {
    let collector = Collector::start().unwrap();
    let tracer = tracer(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())], FOR_GOOD);
    for _ in 0..1500 {
        tell(&tracer);
    }
    tracer.shutdown(PATIENCE);
    assert_eq!((collector.spans().len(), tracer.counters().exported.get()), (1500, 1500));
}

#[test]
fn spans_arrive_again_once_the_collector_is_back() {
    let addr = Collector::start().unwrap().addr();
    let tracer = to(&format!("http://{addr}"), Duration::from_millis(20), &[]);
    assert!(tell(&tracer));
    eventually(|| tracer.counters().lost.get(), |lost| *lost == 1);
    let collector = Collector::start_at(addr).unwrap();
    eventually(|| tell(&tracer) && !collector.spans().is_empty(), |arrived| *arrived);
    eventually(|| tracer.flow.gate.is_failing(), |failing| !failing);
}

#[test]
fn spans_that_the_collector_rejects_are_lost() {
    let collector = Collector::start().unwrap();
    collector.answer(Answer::RejectSome(2));
    let tracer = tracer(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())], FOR_GOOD);
    for _ in 0..5 {
        tell(&tracer);
    }
    tracer.shutdown(PATIENCE);
    assert_eq!((tracer.counters().exported.get(), tracer.counters().lost.get()), (3, 2));
}

#[test]
#[ignore = "a measurement: cargo test -p saga-service cost_of -- --ignored --nocapture"]
fn cost_of_a_place_and_of_a_record() {
    let tracer = tracer(&[("OTEL_BSP_MAX_QUEUE_SIZE", "1000000"), ("OTEL_BSP_SCHEDULE_DELAY", "600000")], FOR_GOOD);
    let (parent, rounds) = (context(PARENT), 200_000_u32);
    let mut ids = Vec::new();
    let started = Instant::now();
    ids.extend((0..rounds).filter_map(|_| tracer.place(&parent, 1).ids));
    let placed = started.elapsed() / rounds;
    let spans: Vec<_> = ids.into_iter().map(span).collect();
    let started = Instant::now();
    spans.into_iter().for_each(|span| tracer.record(span));
    println!("place {placed:?}, record {:?}", started.elapsed() / rounds);
}

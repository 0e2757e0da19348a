//! Records from foreign programs, read as events.

use super::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn trace(parent: &str, state: &str) -> TraceContext {
    let headers = vec![
        Header::text(header::TYPE, "order.created"),
        Header::text(header::TRACEPARENT, parent),
        Header::text(header::TRACESTATE, state),
    ];
    let key = Some(SagaId::random().to_string().into_bytes());
    let record = Record { topic: "t".into(), partition: 0, offset: 0, key, value: Some(b"{}".to_vec()), headers };
    open(&record).unwrap().envelope().unwrap().0.trace
}

#[test]
fn a_trace_context_is_passed_on_unchanged() {
    let of_a_later_version = format!("cc{}-what.comes.next", &PARENT[2..]);
    for parent in [PARENT, &of_a_later_version] {
        let TraceContext { traceparent, tracestate } = trace(parent, "vendor=a b, other=1");
        assert_eq!((traceparent.as_deref(), tracestate.as_deref()), (Some(parent), Some("vendor=a b, other=1")));
    }
}

#[test]
fn a_trace_context_with_invalid_characters_is_dropped() {
    for hostile in ["\0", "\n", "\u{1b}[2J", "ä"] {
        let parent = format!("cc{}-{hostile}", &PARENT[2..]);
        assert_eq!(trace(&parent, &format!("vendor={hostile}")), TraceContext::default(), "{hostile:?}");
    }
}

#[test]
fn an_event_in_json_takes_the_context_of_its_headers_or_else_of_its_attributes() {
    let of_the_hop = PARENT.replace("b7ad", "0000");
    let origin = format!(r#"{{"type":"t","data":1,"traceparent":"{PARENT}","tracestate":"origin=1"}}"#);
    let context = |more: &[Header]| {
        let mut headers = vec![Header::text(header::CONTENT_TYPE, "application/cloudevents+json")];
        headers.extend_from_slice(more);
        let key = Some(SagaId::random().to_string().into_bytes());
        let value = Some(origin.clone().into_bytes());
        let record = Record { topic: "t".into(), partition: 0, offset: 0, key, value, headers };
        open(&record).unwrap().envelope().unwrap().0.trace
    };
    let TraceContext { traceparent, tracestate } = context(&[]);
    assert_eq!((traceparent.as_deref(), tracestate.as_deref()), (Some(PARENT), Some("origin=1")));
    let hop = context(&[Header::text(header::TRACEPARENT, of_the_hop.clone())]);
    assert_eq!(hop, TraceContext { traceparent: Some(of_the_hop), tracestate: None });
}

#[test]
fn an_invalid_trace_context_is_dropped() {
    for broken in [
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
    ] {
        assert_eq!(trace(broken, "vendor=1"), TraceContext::default(), "{broken}");
    }
}

/// A record with this value, under a random saga id as its key.
fn foreign(headers: Vec<Header>, value: &str) -> Record {
    let key = Some(SagaId::random().to_string().into_bytes());
    Record { topic: "t".into(), partition: 0, offset: 0, key, value: Some(value.as_bytes().to_vec()), headers }
}

fn structured(value: &str) -> Record {
    foreign(vec![Header::text("Content-Type", "application/cloudevents+json; charset=utf-8")], value)
}

fn fault(record: &Record) -> (&'static str, String) {
    let fault = open(record).and_then(|opened| opened.envelope().map(|_| ())).unwrap_err();
    (fault.reason.as_str(), fault.message)
}

#[test]
fn data_in_base64_is_decoded() {
    for base64 in ["eyJhIjoxfQ==", "eyJhIjoxfQ"] {
        let record = structured(&format!(r#"{{"specversion":"1.0","type":"t","data_base64":"{base64}"}}"#));
        let (_, data) = open(&record).unwrap().envelope().unwrap();
        assert_eq!(&*data, br#"{"a":1}"#);
    }
}

#[test]
fn invalid_base64_and_data_in_two_forms_are_refused() {
    let broken = structured(r#"{"type":"t","data_base64":"{}"}"#);
    assert_eq!(fault(&broken), ("undecodable", "data_base64 is not base64".to_owned()));
    let both = structured(r#"{"type":"t","data":{},"data_base64":"e30="}"#);
    assert_eq!(fault(&both), ("invalid", "the event has both data and data_base64".to_owned()));
    assert_eq!(fault(&structured(r#"{"type":"t"}"#)), ("undecodable", "the record has no data".to_owned()));
}

#[test]
fn binary_and_structured_mode_yield_the_same_envelope() {
    let attributes = [
        ("specversion", "1.0"),
        ("id", "7"),
        ("source", "/shop"),
        ("type", "order.created"),
        ("time", "2026-01-01T00:00:00Z"),
        ("dataschema", "https://example.com/schemas/order.created/2"),
        ("causationid", "6"),
        ("traceparent", PARENT),
        ("tracestate", "a=1"),
        ("nullcompensation", "true"),
        ("compensationfailed", "true"),
    ];
    let headers = attributes.iter().map(|(name, value)| Header::text(format!("ce_{name}"), *value)).collect();
    let binary = foreign(headers, r#"{"a":1}"#);
    let mut value: serde_json::Map<_, _> =
        attributes.iter().map(|(name, value)| ((*name).to_owned(), serde_json::Value::from(*value))).collect();
    value.insert("data".to_owned(), serde_json::json!({"a": 1}));
    let structured = Record { key: binary.key.clone(), ..structured(&serde_json::to_string(&value).unwrap()) };
    let (first, second) = (open(&binary).unwrap().envelope().unwrap(), open(&structured).unwrap().envelope().unwrap());
    assert_eq!(first, second);
    let (envelope, _) = first;
    assert_eq!((envelope.version, envelope.source.as_str(), envelope.causation_id.as_deref()), (2, "/shop", Some("6")));
    assert_eq!(envelope.trace, TraceContext::read(Some(PARENT), Some("a=1")));
    assert!(envelope.null_compensation);
    assert!(envelope.compensation_failed && envelope.partly_compensated, "the one says the other");
}

#[test]
fn the_trace_extension_is_read_when_the_bare_header_is_missing() {
    let of_the_hop = PARENT.replace("b7ad", "0000");
    let extension = [
        Header::text(header::TYPE, "t"),
        Header::text(header::CE_TRACEPARENT, PARENT),
        Header::text(header::CE_TRACESTATE, "origin=1"),
    ];
    let trace = |more: &[Header]| {
        let record = foreign([&extension[..], more].concat(), "{}");
        let read = open(&record).unwrap().envelope().unwrap().0.trace;
        assert_eq!(trace_of(&record), read, "also of a record that is not an event");
        read
    };
    assert_eq!(trace(&[]), TraceContext::read(Some(PARENT), Some("origin=1")));
    assert_eq!(trace(&[Header::text(header::TRACESTATE, "hop=1")]), TraceContext::read(Some(PARENT), Some("origin=1")));
    let hop = trace(&[Header::text(header::TRACEPARENT, of_the_hop.clone())]);
    assert_eq!(hop, TraceContext { traceparent: Some(of_the_hop), tracestate: None });
}

#[test]
fn the_dead_letter_of_a_structured_event_without_its_content_type_says_so() {
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"order.created","data":{}}"#;
    for content_type in [Some("application/json"), None] {
        let headers = content_type.map(|of| Header::text("content-type", of)).into_iter().collect();
        let (reason, message) = fault(&foreign(headers, event));
        assert_eq!(reason, "missing_type");
        assert!(message.contains("application/cloudevents+json"), "{message}");
    }
    let (reason, message) = fault(&foreign(vec![], r#"{"type":"order.created"}"#));
    assert_eq!((reason, message.as_str()), ("missing_type", "the record has no ce_type"));
    let (reason, message) = fault(&structured(r#"{"specversion":"1.0"}"#));
    assert_eq!((reason, message.as_str()), ("missing_type", "the CloudEvent in the value has no type"));
}

#[test]
fn a_key_in_another_spelling_is_refused_and_the_canonical_one_is_named() {
    const CANONICAL: &str = "01a1fc38-2552-74dd-874d-d653b16355f5";
    let keyed = |key: &str| Record {
        key: Some(key.as_bytes().to_vec()),
        ..foreign(vec![Header::text(header::TYPE, "t")], "{}")
    };
    assert!(open(&keyed(CANONICAL)).unwrap().envelope().is_ok());
    let simple = CANONICAL.replace('-', "");
    for other in [
        &CANONICAL.to_uppercase(),
        &simple,
        &format!("{{{CANONICAL}}}"),
        &format!("urn:uuid:{CANONICAL}"),
        &CANONICAL.replace('a', "A"),
    ] {
        let (reason, message) = fault(&keyed(other));
        assert_eq!(reason, "key_mismatch", "{other}");
        assert!(message.ends_with(CANONICAL), "{message}");
    }
    assert_eq!(fault(&keyed(" 01a1fc38")), ("key_mismatch", "the key is not a saga id (a UUID)".to_owned()));
}

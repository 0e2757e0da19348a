//! Our spans as the SDK has them.

use std::time::SystemTime;

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId, Value,
    trace::{Link, SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use saga_core::trace::{self, Ids, Kind, Span, TraceContext};

/// What a collector takes; more are counted as dropped, as the SDK does it.
const MAX_LINKS: usize = 128;

pub(crate) fn data(span: Span) -> SpanData {
    let Span { ids: Ids { trace_id, span_id, parent_id }, kind, name, start, end, attributes, links, error } = span;
    let kept = links.iter().take(MAX_LINKS).filter_map(link).collect();
    let dropped = u32::try_from(links.len().saturating_sub(MAX_LINKS)).unwrap_or(u32::MAX);
    let mut links = SpanLinks::default();
    (links.links, links.dropped_count) = (kept, dropped);
    let context = SpanContext::new(
        TraceId::from(u128::from_be_bytes(trace_id)),
        SpanId::from(u64::from_be_bytes(span_id)),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    );
    SpanData {
        span_context: context,
        parent_span_id: parent_id.map_or(SpanId::INVALID, |id| SpanId::from(u64::from_be_bytes(id))),
        parent_span_is_remote: parent_id.is_some() && matches!(kind, Kind::Server | Kind::Consumer),
        span_kind: match kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Producer => SpanKind::Producer,
            Kind::Consumer => SpanKind::Consumer,
        },
        name,
        start_time: SystemTime::from(start),
        end_time: SystemTime::from(end),
        attributes: attributes.into_iter().map(|(key, value)| KeyValue::new(key, self::value(value))).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links,
        status: error.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder("saga").with_version(env!("CARGO_PKG_VERSION")).build(),
    }
}

fn value(value: trace::Value) -> Value {
    match value {
        trace::Value::Text(text) => text.into(),
        trace::Value::Int(number) => number.into(),
        trace::Value::Float(number) => number.into(),
        trace::Value::Bool(truth) => truth.into(),
    }
}

/// A context that is none is no link.
fn link(context: &TraceContext) -> Option<Link> {
    let parent = context.parse()?;
    let state = context.tracestate.as_deref().and_then(|state| state.parse().ok()).unwrap_or_default();
    Some(Link::with_context(SpanContext::new(
        TraceId::from(u128::from_be_bytes(parent.trace_id)),
        SpanId::from(u64::from_be_bytes(parent.span_id)),
        if parent.sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED },
        true,
        state,
    )))
}

//! How what the framework writes of its own stands in text columns, the same on both databases.

use std::{borrow::Cow, time::Duration};

use saga_core::{
    barrier::{Mark, Op},
    envelope::header,
    event::SagaId,
    record::{Header, OutRecord, headers_from_json, headers_to_json},
    store::{DeclaredStep, OutboxRow, StoreError, Summary},
    trace::{Ids, TraceContext},
};

/// The most that a size of a table is told as.
pub(crate) const COUNTED: i64 = Summary::COUNTED as i64;

pub(crate) fn op(op: Op) -> &'static str {
    match op {
        Op::Action => "action",
        Op::Compensate => "compensate",
    }
}

/// The events that start a step, as a JSON list.
pub(crate) fn triggers(step: &DeclaredStep) -> String {
    serde_json::Value::from_iter(step.triggers.iter().map(String::as_str)).to_string()
}

pub(crate) fn declared_step(name: String, triggers: &str) -> Result<DeclaredStep, StoreError> {
    let triggers = serde_json::from_str(triggers)
        .map_err(|error| StoreError::Broken(format!("saga_step.triggers of {name}: {error}")))?;
    Ok(DeclaredStep { name, triggers })
}

pub(crate) fn mark(mark: Mark) -> &'static str {
    match mark {
        Mark::Started => "started",
        Mark::Done => "done",
        Mark::Refused => "refused",
        Mark::Null => "null",
        Mark::Voiding => "voiding",
    }
}

pub(crate) fn read_mark(text: &str) -> Result<Mark, StoreError> {
    Ok(match text {
        "started" => Mark::Started,
        "done" => Mark::Done,
        "refused" => Mark::Refused,
        "null" => Mark::Null,
        "voiding" => Mark::Voiding,
        other => return Err(StoreError::Broken(format!("{other:?} is not a mark of the barrier"))),
    })
}

/// An id read back.
pub(crate) fn read_uuid(text: &str) -> Result<uuid::Uuid, StoreError> {
    text.parse().map_err(|_| StoreError::Broken(format!("{text:?} is not a UUID")))
}

/// Text from outside the program, without the one character that PostgreSQL cannot store.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// The property that names the span around the one whose context is beside it; empty for the first span of a trace.
const SPAN_PARENT: &str = "spanparent=";

/// The trace context in the form that Debezium's outbox router reads: Java properties. It passes over the last one, by
/// which whoever publishes the row after a crash tells the very span that is in the event's header.
pub(crate) fn span_context(row: &OutboxRow) -> Option<String> {
    let value = |name: &str| {
        let header = row.record.headers.iter().find(|header| header.is(name))?;
        std::str::from_utf8(header.value.as_deref()?).ok().map(clean)
    };
    let parent = value(header::TRACEPARENT)?;
    let mut text = format!("traceparent={parent}\n");
    if let Some(state) = value(header::TRACESTATE) {
        text.push_str(&format!("tracestate={state}\n"));
    }
    if let Some(span) = row.span {
        let parent = span.parent_id.map(|id| format!("{:016x}", u64::from_be_bytes(id)));
        text.push_str(&format!("{SPAN_PARENT}{}\n", parent.unwrap_or_default()));
    }
    Some(text)
}

/// The span that a row is to be told as.
fn read_span(headers: &[Header], context: Option<&str>) -> Option<Ids> {
    let parent = context?.lines().find_map(|line| line.strip_prefix(SPAN_PARENT))?;
    let traceparent = headers.iter().find(|header| header.is(header::TRACEPARENT))?.value.clone();
    let context = TraceContext { traceparent: String::from_utf8(traceparent?).ok(), tracestate: None };
    let span = context.parse().filter(|span| span.sampled())?;
    let parent_id = u64::from_str_radix(parent, 16).ok().map(u64::to_be_bytes);
    Some(Ids { trace_id: span.trace_id, span_id: span.span_id, parent_id })
}

/// The headers of a record as text.
pub(crate) fn headers(headers: &[Header]) -> String {
    headers_to_json(headers)
}

/// Headers read back.
pub(crate) fn read_headers(json: &str) -> Result<Vec<Header>, StoreError> {
    headers_from_json(json).map_err(|error| StoreError::Broken(format!("stored headers cannot be read: {error}")))
}

/// A saga id read back.
pub(crate) fn read_saga_id(text: &str) -> Result<SagaId, StoreError> {
    text.parse().map_err(|_| StoreError::Broken(format!("{text:?} is not a saga id")))
}

/// Puts an outbox row together from its columns. The key is the saga's id, which is why it has no column.
pub(crate) fn outbox_row(
    id: uuid::Uuid,
    saga_id: &str,
    event_type: String,
    topic: String,
    payload: Option<Vec<u8>>,
    (headers, context): (&str, Option<&str>),
    created_at: jiff::Timestamp,
) -> Result<OutboxRow, StoreError> {
    let record = OutRecord {
        topic: Cow::Owned(topic),
        key: Some(saga_id.as_bytes().to_vec()),
        value: payload,
        headers: read_headers(headers)?,
    };
    let span = read_span(&record.headers, context);
    Ok(OutboxRow { id, saga_id: read_saga_id(saga_id)?, event_type, created_at, record, span, link: None })
}

/// A timer's trace context from its two columns.
pub(crate) fn trace(traceparent: Option<String>, tracestate: Option<String>) -> TraceContext {
    TraceContext { traceparent, tracestate }
}

/// A wait as both can add it to a time: what is longer than 1,000 years is for ever.
pub(crate) fn wait(duration: Duration) -> Duration {
    duration.min(Duration::from_secs(1000 * 365 * 86_400))
}

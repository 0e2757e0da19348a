//! The framework's values as text columns, the same on both databases.

use std::{borrow::Cow, time::Duration};

use saga_core::{
    barrier::{Mark, Op},
    envelope::header,
    event::SagaId,
    record::{Header, OutRecord, headers_from_json, headers_to_json},
    store::{DeclaredStep, OutboxRow, StoreError, Summary, TimerKind},
    trace::{Ids, TraceContext},
};

/// Table sizes are counted up to this number.
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
        Mark::Waiting => "waiting",
        Mark::Again => "again",
        Mark::Failed => "failed",
    }
}

pub(crate) fn read_mark(text: &str) -> Result<Mark, StoreError> {
    Ok(match text {
        "started" => Mark::Started,
        "done" => Mark::Done,
        "refused" => Mark::Refused,
        "null" => Mark::Null,
        "voiding" => Mark::Voiding,
        "waiting" => Mark::Waiting,
        "again" => Mark::Again,
        "failed" => Mark::Failed,
        other => return Err(StoreError::Broken(format!("{other:?} is not a mark of the barrier"))),
    })
}

pub(crate) fn read_timer_kind(text: &str) -> Result<TimerKind, StoreError> {
    TimerKind::named(text).ok_or_else(|| StoreError::Broken(format!("{text:?} is not a kind of timer")))
}

/// Reads the version of an event's schema.
pub(crate) fn read_version(version: i64) -> Result<u32, StoreError> {
    u32::try_from(version).map_err(|_| StoreError::Broken(format!("{version} is not a version of a schema")))
}

/// A round as it is stored.
pub(crate) fn read_round(round: i64) -> u32 {
    u32::try_from(round).unwrap_or(u32::MAX)
}

/// Text without NUL, which PostgreSQL cannot store.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// Property with the parent of the row's span; empty for the first span of a trace.
const SPAN_PARENT: &str = "spanparent=";

/// The trace context as Java properties, as Debezium's outbox router reads it. The router ignores the last property,
/// which lets a sweep after a crash record the very span that is in the event's header.
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

/// The span that a row's publication is recorded as.
fn read_span(headers: &[Header], context: Option<&str>) -> Option<Ids> {
    let parent = context?.lines().find_map(|line| line.strip_prefix(SPAN_PARENT))?;
    let traceparent = headers.iter().find(|header| header.is(header::TRACEPARENT))?.value.clone();
    let context = TraceContext { traceparent: String::from_utf8(traceparent?).ok(), tracestate: None };
    let span = context.parse().filter(|span| span.sampled())?;
    let parent_id = u64::from_str_radix(parent, 16).ok().map(u64::to_be_bytes);
    Some(Ids { trace_id: span.trace_id, span_id: span.span_id, parent_id })
}

/// A record's headers as text.
pub(crate) fn headers(headers: &[Header]) -> String {
    headers_to_json(headers)
}

/// Reads headers.
pub(crate) fn read_headers(json: &str) -> Result<Vec<Header>, StoreError> {
    headers_from_json(json).map_err(|error| StoreError::Broken(format!("stored headers cannot be read: {error}")))
}

/// Reads a saga id.
pub(crate) fn read_saga_id(text: &str) -> Result<SagaId, StoreError> {
    text.parse().map_err(|_| StoreError::Broken(format!("{text:?} is not a saga id")))
}

/// Makes an outbox row of its columns. The key is the saga's id and has no column of its own.
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

/// A timer's trace context, from its two columns.
pub(crate) fn trace(traceparent: Option<String>, tracestate: Option<String>) -> TraceContext {
    TraceContext { traceparent, tracestate }
}

/// A duration that both databases can add to a time: at most 1,000 years.
pub(crate) fn wait(duration: Duration) -> Duration {
    duration.min(Duration::from_secs(1000 * 365 * 86_400))
}

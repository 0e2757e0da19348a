//! What a record says about its event, for those who look on.

use jiff::Timestamp;
use order_flow_events::Reason;
use saga_core::{
    dead_letter::Poison,
    envelope::{self, header},
    record::Record,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::text::capped;

/// A record on an event topic, read as an event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) version: u32,
    pub(crate) saga: Uuid,
    pub(crate) source: String,
    pub(crate) at: Timestamp,
    /// The id of the event that was handled.
    pub(crate) cause: Option<String>,
    pub(crate) trace_id: Option<String>,
    /// There was nothing to undo.
    pub(crate) null: bool,
    /// The word that refusals and compensations carry; nothing else of the data.
    pub(crate) reason: Option<String>,
}

/// What the envelope, which consumers read, leaves out; in structured mode.
#[derive(Deserialize, Default)]
struct Origin {
    source: Option<String>,
    time: Option<String>,
    causationid: Option<String>,
}

#[derive(Deserialize)]
struct WithReason {
    reason: Option<Reason>,
}

const STRUCTURED: &str = "application/cloudevents";

/// A header's value, when it is text.
pub(crate) fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let header = record.headers.iter().find(|h| h.is(name))?;
    std::str::from_utf8(header.value.as_deref()?).ok()
}

pub(crate) fn is_dead_letter(record: &Record) -> bool {
    has_dead_letters(&record.topic)
}

/// Whether the topic is one of dead letters.
pub(crate) fn has_dead_letters(topic: &str) -> bool {
    topic.ends_with(".dlq")
}

/// The saga that a key names.
pub(crate) fn saga_of(key: Option<&[u8]>) -> Option<Uuid> {
    Uuid::try_parse_ascii(key?).ok()
}

/// Reads the record as its consumers do. An event that does not say when it happened did so when it was written.
pub(crate) fn read(record: &Record, written: Option<Timestamp>) -> Result<Event, Poison> {
    let (envelope, data) = envelope::open(record)?.envelope()?;
    let (source, time) = (text(record, header::SOURCE), text(record, header::TIME));
    let is_structured =
        text(record, header::CONTENT_TYPE).is_some_and(|t| t.to_ascii_lowercase().starts_with(STRUCTURED));
    let in_value =
        if is_structured { record.value.as_deref().and_then(|value| serde_json::from_slice(value).ok()) } else { None };
    let Origin { source: their_source, time: their_time, causationid } = in_value.unwrap_or_default();
    let at = time.or(their_time.as_deref()).and_then(|time| time.parse().ok()).or(written);
    Ok(Event {
        saga: envelope.saga_id.as_uuid(),
        source: capped(source.or(their_source.as_deref()).unwrap_or_default().trim_start_matches('/')),
        at: at.unwrap_or_default(),
        cause: text(record, header::CAUSATION_ID).map(capped).or(causationid.map(capped)),
        trace_id: envelope.trace.trace_id().map(str::to_owned),
        null: envelope.null_compensation,
        reason: serde_json::from_slice::<WithReason>(data).ok().and_then(|data| Some(data.reason?.to_string())),
        id: envelope.event_id,
        kind: capped(envelope.event_type),
        version: envelope.version,
    })
}

#[cfg(test)]
mod tests {
    use saga_core::record::Header;

    use super::*;

    fn record(headers: Vec<Header>, value: &str) -> Record {
        let key = Some(Uuid::from_u128(7).to_string().into_bytes());
        Record { topic: "t".into(), partition: 1, offset: 2, key, value: Some(value.as_bytes().to_vec()), headers }
    }

    #[test]
    fn both_modes_say_who_and_when() {
        let binary = record(
            vec![
                Header::text("ce_type", "order.created"),
                Header::text("ce_source", "/shop"),
                Header::text("ce_time", "2026-01-01T00:00:00Z"),
            ],
            "{}",
        );
        let structured = record(
            vec![Header::text("content-type", "application/cloudevents+json")],
            r#"{"type": "order.created", "source": "/shop", "time": "2026-01-01T00:00:00Z", "data": {}}"#,
        );
        for record in [binary, structured] {
            let event = read(&record, None).unwrap();
            assert_eq!((event.source.as_str(), event.at), ("shop", "2026-01-01T00:00:00Z".parse().unwrap()));
        }
    }

    #[test]
    fn of_the_data_only_a_word_is_taken() {
        let reason = |value: &str| read(&record(vec![Header::text("ce_type", "x")], value), None).unwrap().reason;
        assert_eq!(reason(r#"{"reason": "out_of_stock"}"#).as_deref(), Some("out_of_stock"));
        assert_eq!(reason(r#"{"reason": "Ada Lovelace has moved"}"#), None);
    }
}

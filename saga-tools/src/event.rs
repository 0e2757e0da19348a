//! What a record says about its event, for those who look on.

use jiff::Timestamp;
use saga_core::{
    SagaId,
    dead_letter::Poison,
    envelope::{self, header},
    record::Record,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::text::capped;

/// A record on an event topic, read as an event.
#[derive(Clone, Debug)]
pub struct Event {
    /// `ce_id`, or its place.
    pub id: String,
    /// Its source and id as one value.
    pub identity: Uuid,
    /// `ce_type`.
    pub kind: String,
    /// The version of its data.
    pub version: u32,
    /// The saga, as the key says.
    pub saga: Uuid,
    /// Who published it: `ce_source` without its leading slash.
    pub source: String,
    /// When it happened.
    pub at: Timestamp,
    /// The id of the event that was handled.
    pub cause: Option<String>,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
    /// There was nothing to undo.
    pub null: bool,
    /// The word that refusals and compensations carry; nothing else of the data.
    pub reason: Option<String>,
    /// The fields of the data that hold the saga's id.
    pub saga_fields: Vec<String>,
}

/// The fields of the data that hold the saga's id: no event has more than some.
fn saga_fields(data: &Map<String, Value>, saga: SagaId) -> Vec<String> {
    let saga = saga.to_string();
    let is_saga = |value: &Value| value.as_str() == Some(&saga);
    data.iter().filter(|(_, value)| is_saga(value)).take(4).map(|(name, _)| capped(name.as_str())).collect()
}

/// A word is shown: `out_of_stock`. What is longer, or written like a name, may be somebody's data.
fn word(text: String) -> Option<String> {
    let is_word =
        text.len() <= 64 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b));
    (is_word && !text.is_empty()).then_some(text)
}

/// A header's value, when it is text.
pub fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let header = record.headers.iter().find(|h| h.is(name))?;
    std::str::from_utf8(header.value.as_deref()?).ok()
}

/// Whether the record is a dead letter.
pub fn is_dead_letter(record: &Record) -> bool {
    has_dead_letters(&record.topic)
}

/// Whether the topic is one of dead letters.
pub fn has_dead_letters(topic: &str) -> bool {
    topic.ends_with(".dlq")
}

/// The saga that a key names.
pub fn saga_of(key: Option<&[u8]>) -> Option<Uuid> {
    Uuid::try_parse_ascii(key?).ok()
}

/// The type of the event, as far as one can be made out: also of a record that no participant can read.
pub fn kind_of(record: &Record) -> Option<String> {
    let header = text(record, header::TYPE).map(str::to_owned);
    envelope::open(record).map(|opened| opened.event_type().to_owned()).ok().or(header)
}

/// Reads the record as its consumers do. An event that does not say when it happened did so when it was written.
///
/// # Errors
/// When no consumer can read it.
pub fn read(record: &Record, written: Option<Timestamp>) -> Result<Event, Poison> {
    let (envelope, data) = envelope::open(record)?.envelope()?;
    let mut data: Map<String, Value> = serde_json::from_slice(&data).unwrap_or_default();
    Ok(Event {
        saga_fields: saga_fields(&data, envelope.saga_id),
        saga: envelope.saga_id.as_uuid(),
        identity: envelope.identity(),
        source: capped(envelope.source.trim_start_matches('/')),
        at: envelope.time.or(written).unwrap_or_default(),
        cause: envelope.causation_id.map(capped),
        trace_id: envelope.trace.trace_id().map(str::to_owned),
        null: envelope.null_compensation,
        reason: match data.remove("reason") {
            Some(Value::String(reason)) => word(reason),
            _ => None,
        },
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
    fn data_in_base64_and_the_cause_of_an_event_are_read_in_structured_mode_too() {
        let value = r#"{"type": "order.cancelled", "id": "1", "source": "/shop", "causationid": "c",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "data_base64": "eyJyZWFzb24iOiAib3V0X29mX3N0b2NrIn0="}"#;
        let event =
            read(&record(vec![Header::text("content-type", "application/cloudevents+json")], value), None).unwrap();
        assert_eq!(event.reason.as_deref(), Some("out_of_stock"));
        assert_eq!(event.cause.as_deref(), Some("c"));
        assert_eq!(event.trace_id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
    }

    #[test]
    fn the_type_of_an_event_is_known_also_where_the_rest_cannot_be_read() {
        let content_type = Header::text("content-type", "application/cloudevents+json");
        let structured = record(vec![content_type], r#"{"type": "order.created", "data": 1, "specversion": "7"}"#);
        let twice = record(vec![Header::text("ce_type", "order.created"), Header::text("ce_type", "x")], "{}");
        for record in [structured, twice] {
            assert!(read(&record, None).is_err());
            assert_eq!(kind_of(&record).as_deref(), Some("order.created"));
        }
        assert_eq!(kind_of(&record(vec![], "{}")), None);
    }

    #[test]
    fn of_the_data_only_a_word_is_taken() {
        let reason = |value: &str| read(&record(vec![Header::text("ce_type", "x")], value), None).unwrap().reason;
        assert_eq!(reason(r#"{"reason": "out_of_stock"}"#).as_deref(), Some("out_of_stock"));
        assert_eq!(reason(r#"{"reason": "Ada Lovelace has moved"}"#), None);
        assert_eq!(reason(r#"{"reason": "Lovelace"}"#), None);
        assert_eq!(reason(r#"{"reason": ""}"#), None);
    }
}

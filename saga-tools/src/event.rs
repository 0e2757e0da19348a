//! An event as observed in a record of an event topic.

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

/// An event read from a record.
#[derive(Clone, Debug)]
pub struct Event {
    /// `ce_id`, or the record's position.
    pub id: String,
    /// Source and id combined into one value.
    pub identity: Uuid,
    /// `ce_type`.
    pub kind: String,
    /// The version of the data's schema.
    pub version: u32,
    /// The saga's id, from the record's key.
    pub saga: Uuid,
    /// The publisher: `ce_source` without its leading slash.
    pub source: String,
    /// When the event happened.
    pub at: Timestamp,
    /// The id of the event that caused this one.
    pub cause: Option<String>,
    /// The id of its trace.
    pub trace_id: Option<String>,
    /// Whether it is a null compensation.
    pub null: bool,
    /// Whether it is the event of a compensation that failed for good.
    pub compensation_failed: bool,
    /// Whether it follows from such a compensation, or is its event.
    pub partly_compensated: bool,
    /// The `reason` of a refusal or compensation, if it is a single word. No other data is kept.
    pub reason: Option<String>,
    /// The data fields that hold the saga's id; none when the data is not a JSON object.
    pub saga_fields: Option<Vec<String>>,
}

/// The data fields that hold the saga's id, at most four.
fn saga_fields(data: &Map<String, Value>, saga: SagaId) -> Vec<String> {
    let saga = saga.to_string();
    let is_saga = |value: &Value| value.as_str() == Some(&saga);
    data.iter().filter(|(_, value)| is_saga(value)).take(4).map(|(name, _)| capped(name.as_str())).collect()
}

/// Accepts a single word such as `out_of_stock`. Longer text may be personal data.
fn word(text: String) -> Option<String> {
    let is_word =
        text.len() <= 64 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b));
    (is_word && !text.is_empty()).then_some(text)
}

/// A header's value, if it is UTF-8.
pub fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let header = record.headers.iter().find(|h| h.is(name))?;
    std::str::from_utf8(header.value.as_deref()?).ok()
}

/// Whether the record is on a dead-letter topic.
pub fn is_dead_letter(record: &Record) -> bool {
    has_dead_letters(&record.topic)
}

/// Whether the topic is a dead-letter topic.
pub fn has_dead_letters(topic: &str) -> bool {
    topic.ends_with(".dlq")
}

/// The saga id in a record's key.
pub fn saga_of(key: Option<&[u8]>) -> Option<Uuid> {
    Uuid::try_parse_ascii(key?).ok()
}

/// The event's type, also of a record that no participant can read.
pub fn kind_of(record: &Record) -> Option<String> {
    let header = text(record, header::TYPE).map(str::to_owned);
    envelope::open(record).map(|opened| opened.event_type().to_owned()).ok().or(header)
}

/// Reads a record as its consumers do. Without `ce_time`, the time is that of the record.
///
/// # Errors
/// When consumers cannot read it either.
pub fn read(record: &Record, written: Option<Timestamp>) -> Result<Event, Poison> {
    let (envelope, data) = envelope::open(record)?.envelope()?;
    let mut data: Option<Map<String, Value>> = serde_json::from_slice(&data).ok();
    Ok(Event {
        saga_fields: data.as_ref().map(|data| saga_fields(data, envelope.saga_id)),
        saga: envelope.saga_id.as_uuid(),
        identity: envelope.identity(),
        source: capped(envelope.source.trim_start_matches('/')),
        at: envelope.time.or(written).unwrap_or_default(),
        cause: envelope.causation_id.map(capped),
        trace_id: envelope.trace.trace_id().map(str::to_owned),
        null: envelope.null_compensation,
        compensation_failed: envelope.compensation_failed,
        partly_compensated: envelope.partly_compensated,
        reason: match data.as_mut().and_then(|data| data.remove("reason")) {
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

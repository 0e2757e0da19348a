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
    /// Its source and id as one value.
    pub(crate) identity: Uuid,
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

#[derive(Deserialize)]
struct WithReason {
    reason: Option<Reason>,
}

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

/// The type of the event, as far as one can be made out: also of a record that no participant can read.
pub(crate) fn kind_of(record: &Record) -> Option<String> {
    let header = text(record, header::TYPE).map(str::to_owned);
    envelope::open(record).map(|opened| opened.event_type().to_owned()).ok().or(header)
}

/// Reads the record as its consumers do. An event that does not say when it happened did so when it was written.
pub(crate) fn read(record: &Record, written: Option<Timestamp>) -> Result<Event, Poison> {
    let (envelope, data) = envelope::open(record)?.envelope()?;
    Ok(Event {
        saga: envelope.saga_id.as_uuid(),
        identity: envelope.identity(),
        source: capped(envelope.source.trim_start_matches('/')),
        at: envelope.time.or(written).unwrap_or_default(),
        cause: envelope.causation_id.map(capped),
        trace_id: envelope.trace.trace_id().map(str::to_owned),
        null: envelope.null_compensation,
        reason: serde_json::from_slice::<WithReason>(&data).ok().and_then(|data| Some(data.reason?.to_string())),
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
    }
}

//! CloudEvents 1.0 on Kafka: how a record's headers and value become an event, and back.
//!
//! Source: the CloudEvents Kafka protocol binding 1.0.2. Binary mode is written, binary and structured mode are read.
//! Only the type and the key are required of a foreign producer.

use std::{borrow::Cow, collections::HashSet};

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    dead_letter::{Poison, Reason},
    event::{EventType, SagaId},
    record::{Header, OutRecord, Record},
    trace::{TraceContext, Traceparent},
};

/// Names of the headers we read and write.
pub mod header {
    #![allow(missing_docs, reason = "each is the name it holds")]
    pub const CONTENT_TYPE: &str = "content-type";
    pub const SPECVERSION: &str = "ce_specversion";
    pub const ID: &str = "ce_id";
    pub const SOURCE: &str = "ce_source";
    pub const TYPE: &str = "ce_type";
    pub const TIME: &str = "ce_time";
    pub const SUBJECT: &str = "ce_subject";
    pub const CORRELATION_ID: &str = "ce_correlationid";
    pub const CAUSATION_ID: &str = "ce_causationid";
    pub const DATASCHEMA: &str = "ce_dataschema";
    /// On a compensation event: there was nothing to undo.
    pub const NULL_COMPENSATION: &str = "ce_nullcompensation";
    pub const TRACEPARENT: &str = "traceparent";
    pub const TRACESTATE: &str = "tracestate";
}

const STRUCTURED: &str = "application/cloudevents";

/// What a record says about its event, besides the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Unique among all events: `ce_id`, with the source before it when it is not a UUID, since CloudEvents promises
    /// uniqueness only of the pair; `<topic>/<partition>/<offset>` for a record without `ce_id`.
    pub event_id: String,
    /// `ce_type`.
    pub event_type: String,
    /// The last path segment of `ce_dataschema`, 1 when absent.
    pub version: u32,
    /// The record's key.
    pub saga_id: SagaId,
    /// `ce_time`: when the event happened, by the clock of whoever published it; none when absent or malformed.
    pub time: Option<Timestamp>,
    /// The W3C trace context.
    pub trace: TraceContext,
    /// A compensation that had nothing to undo.
    pub null_compensation: bool,
}

/// The part of a structured-mode value that we read.
#[derive(Deserialize)]
struct Structured<'a> {
    specversion: Option<String>,
    id: Option<String>,
    source: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    time: Option<String>,
    dataschema: Option<String>,
    traceparent: Option<String>,
    tracestate: Option<String>,
    nullcompensation: Option<serde_json::Value>,
    #[serde(borrow)]
    data: Option<&'a serde_json::value::RawValue>,
}

/// Attributes as they stand in the record, whichever mode it is in.
#[derive(Default)]
struct Attributes<'a> {
    specversion: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    event_type: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
    dataschema: Option<Cow<'a, str>>,
    traceparent: Option<Cow<'a, str>>,
    tracestate: Option<Cow<'a, str>>,
    null_compensation: bool,
    data: Option<&'a [u8]>,
}

/// A record read as far as its type. What is wrong with the rest matters only to those who consume the type.
pub struct Opened<'a> {
    record: &'a Record,
    event_type: String,
    attributes: Result<Attributes<'a>, Poison>,
}

/// Reads a record as far as its type.
///
/// # Errors
/// When the type cannot be read: every participant that consumes the topic dead-letters the record.
pub fn open(record: &Record) -> Result<Opened<'_>, Poison> {
    let (attributes, flaw) = match content_type(record) {
        Some(content_type) if is_structured(content_type) => (structured(record)?, header_flaw(record)),
        _ => {
            let flaw = header_flaw(record);
            (binary(record), flaw)
        }
    };
    let types = record.headers.iter().filter(|h| h.is(header::TYPE)).count();
    match &attributes.event_type {
        Some(event_type) if types < 2 && !event_type.is_empty() => Ok(Opened {
            record,
            event_type: event_type.clone().into_owned(),
            attributes: flaw.map_or(Ok(attributes), Err),
        }),
        // A flawed header is the better explanation of why there is no type.
        _ => Err(flaw.unwrap_or_else(|| Poison::new(Reason::MissingType, "the record has no ce_type"))),
    }
}

impl<'a> Opened<'a> {
    /// The event's type.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// Reads the rest of the envelope. The data is returned as it stands in the record.
    ///
    /// # Errors
    /// When the record is flawed: a participant that consumes the type dead-letters it.
    pub fn envelope(self) -> Result<(Envelope, &'a [u8]), Poison> {
        let attributes = self.attributes?;
        if let Some(version) = &attributes.specversion
            && !version.starts_with("1.")
        {
            return Err(Poison::new(Reason::Invalid, "ce_specversion is not 1.x"));
        }
        let record = self.record;
        if record.key.as_deref().is_none_or(<[u8]>::is_empty) {
            return Err(Poison::new(Reason::MissingKey, "the record has no key"));
        }
        let saga_id =
            record.saga_id().ok_or_else(|| Poison::new(Reason::KeyMismatch, "the key is not a saga id (a UUID)"))?;
        let version = match attributes.dataschema.as_deref() {
            None | Some("") => 1,
            Some(uri) => uri.rsplit('/').next().and_then(|v| v.parse().ok()).ok_or_else(|| {
                Poison::new(Reason::UnsupportedVersion, "ce_dataschema does not end in a version number")
            })?,
        };
        let event_id = match (attributes.id, attributes.source) {
            (None, _) => format!("{}/{}/{}", record.topic, record.partition, record.offset),
            (Some(id), _) if id.is_empty() => format!("{}/{}/{}", record.topic, record.partition, record.offset),
            (Some(id), source) => match (Uuid::try_parse(&id), source) {
                (Ok(id), _) => id.to_string(),
                (Err(_), Some(source)) => format!("{source}#{id}"),
                // Unique within its producer at best: two that number their events must not hide each other's sagas.
                (Err(_), None) => format!("{saga_id}#{id}"),
            },
        };
        if event_id.len() > 512 {
            return Err(Poison::new(Reason::Invalid, "ce_source and ce_id are longer than 512 bytes together"));
        }
        if event_id.contains('\0') {
            return Err(Poison::new(Reason::Invalid, "ce_source or ce_id contains NUL"));
        }
        let data = attributes.data.ok_or_else(|| Poison::new(Reason::Undecodable, "the record has no data"))?;
        let envelope = Envelope {
            event_id,
            event_type: self.event_type,
            version,
            saga_id,
            time: attributes.time.and_then(|time| time.parse().ok()),
            trace: trace_context(attributes.traceparent, attributes.tracestate),
            null_compensation: attributes.null_compensation,
        };
        Ok((envelope, data))
    }
}

/// The trace context of a record that may be anything else but an event.
pub fn trace_of(record: &Record) -> TraceContext {
    let Attributes { traceparent, tracestate, .. } = binary(record);
    trace_context(traceparent, tracestate)
}

fn trace_context(traceparent: Option<Cow<'_, str>>, tracestate: Option<Cow<'_, str>>) -> TraceContext {
    // A broken one is not handed on.
    let Some(traceparent) = traceparent.filter(|text| Traceparent::parse(text).is_some()) else {
        // Without its parent a state means nothing.
        return TraceContext::default();
    };
    let tracestate = tracestate.filter(|text| text.len() <= 512 && is_printable(text));
    TraceContext { traceparent: Some(traceparent.into_owned()), tracestate: tracestate.map(Cow::into_owned) }
}

/// The first thing that is wrong with the headers themselves.
fn header_flaw(record: &Record) -> Option<Poison> {
    let mut seen = HashSet::new();
    for Header { name, value } in &record.headers {
        let Ok(name) = std::str::from_utf8(name) else {
            return Some(Poison::new(Reason::Undecodable, "a header's name is not UTF-8"));
        };
        let is_attribute = name.starts_with("ce_");
        if is_attribute && value.as_deref().is_some_and(|v| std::str::from_utf8(v).is_err()) {
            return Some(Poison::new(Reason::Undecodable, format!("the value of header {name} is not UTF-8")));
        }
        if is_attribute && !seen.insert(name) {
            return Some(Poison::new(Reason::Invalid, format!("header {name} occurs more than once")));
        }
    }
    None
}

fn text(value: Option<&[u8]>) -> Option<Cow<'_, str>> {
    value.and_then(|v| std::str::from_utf8(v).ok()).map(Cow::Borrowed)
}

fn content_type(record: &Record) -> Option<&[u8]> {
    record.headers.iter().rev().find(|h| h.name.eq_ignore_ascii_case(b"content-type")).and_then(|h| h.value.as_deref())
}

fn is_structured(content_type: &[u8]) -> bool {
    content_type.get(..STRUCTURED.len()).is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED.as_bytes()))
}

fn binary(record: &Record) -> Attributes<'_> {
    let mut attributes = Attributes { data: record.value.as_deref(), ..Attributes::default() };
    for Header { name, value } in &record.headers {
        let value = || text(value.as_deref());
        match std::str::from_utf8(name) {
            Ok(header::SPECVERSION) => attributes.specversion = value(),
            Ok(header::ID) => attributes.id = value(),
            Ok(header::SOURCE) => attributes.source = value(),
            Ok(header::TYPE) => attributes.event_type = value(),
            Ok(header::TIME) => attributes.time = value(),
            Ok(header::DATASCHEMA) => attributes.dataschema = value(),
            Ok(header::TRACEPARENT) => attributes.traceparent = value(),
            Ok(header::TRACESTATE) => attributes.tracestate = value(),
            Ok(header::NULL_COMPENSATION) => attributes.null_compensation = value().as_deref() == Some("true"),
            _ => {}
        }
    }
    attributes
}

fn structured(record: &Record) -> Result<Attributes<'_>, Poison> {
    let value = record.value.as_deref().ok_or_else(|| Poison::new(Reason::Undecodable, "the record has no value"))?;
    let event: Structured<'_> = serde_json::from_slice(value)
        .map_err(|_| Poison::new(Reason::Undecodable, "the value is not a CloudEvent in JSON"))?;
    let headers = binary(record);
    // The headers are the context of this hop, the attributes that of the origin: one or the other, not a bit of each.
    let (traceparent, tracestate) = match headers.traceparent {
        Some(traceparent) => (Some(traceparent), headers.tracestate),
        None => (event.traceparent.map(Cow::Owned), event.tracestate.map(Cow::Owned)),
    };
    Ok(Attributes {
        specversion: event.specversion.map(Cow::Owned),
        id: event.id.map(Cow::Owned),
        source: event.source.map(Cow::Owned),
        event_type: event.event_type.map(Cow::Owned),
        time: event.time.map(Cow::Owned),
        dataschema: event.dataschema.map(Cow::Owned),
        traceparent,
        tracestate,
        null_compensation: event.nullcompensation.is_some_and(|v| v == true || v == "true"),
        data: event.data.map(|data| data.get().as_bytes()),
    })
}

/// What a header of HTTP may hold, and any database keeps.
fn is_printable(text: &str) -> bool {
    text.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b))
}

/// An event to be published, complete but for its place in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// `ce_id`.
    pub id: Uuid,
    /// The participant, or the program, that publishes it; `ce_source` is `/<source>`.
    pub source: &'a str,
    /// The saga: key, subject and correlation id.
    pub saga_id: SagaId,
    /// The id of the event that was handled, `ce_causationid`.
    pub causation_id: Option<&'a str>,
    /// `ce_time`.
    pub time: Timestamp,
    /// The saga's trace context.
    pub trace: &'a TraceContext,
    /// Written as `ce_nullcompensation: true`.
    pub null_compensation: bool,
}

/// Puts an event in its record, in binary mode.
pub fn seal(event_type: EventType, data: Vec<u8>, outgoing: &Outgoing<'_>) -> OutRecord {
    let saga_id = outgoing.saga_id.to_string();
    let mut headers = Vec::with_capacity(13);
    headers.push(Header::text(header::SPECVERSION, "1.0"));
    headers.push(Header::text(header::ID, outgoing.id.to_string()));
    headers.push(Header::text(header::SOURCE, format!("/{}", outgoing.source)));
    headers.push(Header::text(header::TYPE, event_type.name));
    headers.push(Header::text(header::TIME, outgoing.time.to_string()));
    headers.push(Header::text(header::SUBJECT, saga_id.clone()));
    headers.push(Header::text(header::CORRELATION_ID, saga_id.clone()));
    if let Some(cause) = outgoing.causation_id {
        headers.push(Header::text(header::CAUSATION_ID, cause));
    }
    headers.push(Header::text(header::DATASCHEMA, format!("/schemas/{}/{}", event_type.name, event_type.version)));
    if outgoing.null_compensation {
        headers.push(Header::text(header::NULL_COMPENSATION, "true"));
    }
    headers.push(Header::text(header::CONTENT_TYPE, "application/json"));
    if let Some(traceparent) = &outgoing.trace.traceparent {
        headers.push(Header::text(header::TRACEPARENT, traceparent.clone()));
        if let Some(tracestate) = &outgoing.trace.tracestate {
            headers.push(Header::text(header::TRACESTATE, tracestate.clone()));
        }
    }
    OutRecord { topic: Cow::Borrowed(event_type.topic), key: Some(saga_id.into_bytes()), value: Some(data), headers }
}

#[cfg(test)]
mod tests {
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
    fn a_trace_context_is_handed_on_as_it_came() {
        let of_a_later_version = format!("cc{}-what.comes.next", &PARENT[2..]);
        for parent in [PARENT, &of_a_later_version] {
            let TraceContext { traceparent, tracestate } = trace(parent, "vendor=a b, other=1");
            assert_eq!((traceparent.as_deref(), tracestate.as_deref()), (Some(parent), Some("vendor=a b, other=1")));
        }
    }

    #[test]
    fn a_trace_context_that_no_database_keeps_is_left_behind() {
        for hostile in ["\0", "\n", "\u{1b}[2J", "ä"] {
            let parent = format!("cc{}-{hostile}", &PARENT[2..]);
            assert_eq!(trace(&parent, &format!("vendor={hostile}")), TraceContext::default(), "{hostile:?}");
        }
    }

    #[test]
    fn the_context_of_an_event_in_json_is_that_of_its_hop_or_that_of_its_origin() {
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
    fn what_is_no_trace_context_is_not_handed_on() {
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
}

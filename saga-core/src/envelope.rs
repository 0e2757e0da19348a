//! CloudEvents 1.0 on Kafka: how a record's headers and value become an event, and back.
//!
//! Source: the CloudEvents Kafka protocol binding 1.0.2. Binary mode is written, binary and structured mode are read.
//! Only the type and the key are required of a foreign producer.

mod attributes;

use std::borrow::Cow;

use jiff::Timestamp;
use uuid::Uuid;

use self::attributes::Attributes;
use crate::{
    dead_letter::{Poison, Reason},
    event::{EventType, SagaId},
    identity,
    record::{Header, OutRecord, Record},
    trace::TraceContext,
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
    /// On a compensation event: there was nothing to compensate.
    pub const NULL_COMPENSATION: &str = "ce_nullcompensation";
    /// On the event of a compensation that failed for good.
    pub const COMPENSATION_FAILED: &str = "ce_compensationfailed";
    /// On that event and on all that follow from it: a part of the saga is not compensated.
    pub const PARTLY_COMPENSATED: &str = "ce_partlycompensated";
    pub const TRACEPARENT: &str = "traceparent";
    pub const TRACESTATE: &str = "tracestate";
    /// The trace context as a CloudEvents extension, read when the bare header is missing.
    pub const CE_TRACEPARENT: &str = "ce_traceparent";
    pub const CE_TRACESTATE: &str = "ce_tracestate";
}

/// Prefix of the `ce_causationid` of an event that a deadline publishes, since no event caused it.
pub const DEADLINE_CAUSE: &str = "deadline/";

/// What a record says about its event, apart from the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// `ce_id`; `<topic>/<partition>/<offset>` for a record without one. Unique together with the source.
    pub event_id: String,
    /// `ce_source`, empty when absent.
    pub source: String,
    /// `ce_type`.
    pub event_type: String,
    /// The last path segment of `ce_dataschema`, 1 when absent.
    pub version: u32,
    /// The record's key.
    pub saga_id: SagaId,
    /// `ce_time`: when the event happened, by the publisher's clock; none when absent or malformed.
    pub time: Option<Timestamp>,
    /// `ce_causationid`: the id of the event that was handled when this one was published.
    pub causation_id: Option<String>,
    /// The W3C trace context.
    pub trace: TraceContext,
    /// Whether this is a compensation that had nothing to compensate.
    pub null_compensation: bool,
    /// Whether this is a compensation at best effort that failed for good: what its step did is still in place.
    pub compensation_failed: bool,
    /// Whether such a compensation is among the causes of this event, or is this event.
    pub partly_compensated: bool,
}

impl Envelope {
    /// The event as one value: see [`identity::cause`].
    pub fn identity(&self) -> Uuid {
        identity::cause(&self.source, &self.event_id)
    }
}

/// A record read as far as its type. Errors in the rest concern only the participants that consume the type.
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
    let attributes = attributes::read(record)?;
    let flaw = attributes::header_flaw(record);
    let types = record.headers.iter().filter(|h| h.is(header::TYPE)).count();
    match &attributes.event_type {
        Some(event_type) if types < 2 && !event_type.is_empty() => Ok(Opened {
            record,
            event_type: event_type.clone().into_owned(),
            attributes: flaw.map_or(Ok(attributes), Err),
        }),
        // A flawed header explains best why there is no type.
        _ => Err(flaw.unwrap_or_else(|| Poison::new(Reason::MissingType, attributes::why_untyped(record)))),
    }
}

impl<'a> Opened<'a> {
    /// The event's type.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// Reads the rest of the envelope. The data is returned as it is in the record, after base64 is decoded.
    ///
    /// # Errors
    /// When the record is flawed: a participant that consumes the type dead-letters it.
    pub fn envelope(self) -> Result<(Envelope, Cow<'a, [u8]>), Poison> {
        let attributes = self.attributes?;
        let trace = attributes.trace();
        let time = attributes.time.as_deref().and_then(|time| time.parse().ok());
        let causation_id = attributes.causation_id.map(Cow::into_owned);
        let (null_compensation, compensation_failed) = (attributes.null_compensation, attributes.compensation_failed);
        let partly_compensated = attributes.partly_compensated || compensation_failed;
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
        let canonical = saga_id.to_string();
        // Kafka treats another spelling as another key: its records are in another partition, without an order relative
        // to ours.
        if record.key.as_deref() != Some(canonical.as_bytes()) {
            return Err(Poison::new(
                Reason::KeyMismatch,
                format!("the key is a UUID in another spelling: write {canonical}"),
            ));
        }
        let version = match attributes.dataschema.as_deref() {
            None | Some("") => 1,
            Some(uri) => uri.rsplit('/').next().and_then(|v| v.parse().ok()).ok_or_else(|| {
                Poison::new(Reason::UnsupportedVersion, "ce_dataschema does not end in a version number")
            })?,
        };
        let event_id = match attributes.id {
            Some(id) if !id.is_empty() => id.into_owned(),
            _ => format!("{}/{}/{}", record.topic, record.partition, record.offset),
        };
        let source = attributes.source.map(Cow::into_owned).unwrap_or_default();
        // The source is kept only as a part of the event's identity.
        if event_id.len() > 512 {
            return Err(Poison::new(Reason::Invalid, "ce_id is longer than 512 bytes"));
        }
        if event_id.contains('\0') {
            return Err(Poison::new(Reason::Invalid, "ce_id contains NUL"));
        }
        let data = attributes.data.ok_or_else(|| Poison::new(Reason::Undecodable, "the record has no data"))?;
        let envelope = Envelope {
            event_id,
            source,
            event_type: self.event_type,
            version,
            saga_id,
            time,
            causation_id,
            trace,
            null_compensation,
            compensation_failed,
            partly_compensated,
        };
        Ok((envelope, data))
    }
}

/// The trace context of a record, also of one that is not an event.
pub fn trace_of(record: &Record) -> TraceContext {
    attributes::read(record).unwrap_or_else(|_| attributes::binary(record)).trace()
}

/// An event to be published, complete except for its position in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// `ce_id`.
    pub id: Uuid,
    /// The participant or program that publishes it; `ce_source` is `/<source>`.
    pub source: &'a str,
    /// The saga id: key, subject and correlation id.
    pub saga_id: SagaId,
    /// The id of the event that was handled: `ce_causationid`.
    pub causation_id: Option<&'a str>,
    /// `ce_time`.
    pub time: Timestamp,
    /// The saga's trace context.
    pub trace: &'a TraceContext,
    /// Written as `ce_nullcompensation: true`.
    pub null_compensation: bool,
}

/// Writes an event as a record in binary mode.
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

/// Marks an event of a saga in which a compensation failed for good; `failed` says whether it is that compensation's own.
pub(crate) fn mark_partly_compensated(record: &mut OutRecord, failed: bool) {
    if failed {
        record.headers.push(Header::text(header::COMPENSATION_FAILED, "true"));
    }
    record.headers.push(Header::text(header::PARTLY_COMPENSATED, "true"));
}

/// Whether [`mark_partly_compensated`] has marked it.
pub(crate) fn is_partly_compensated(record: &OutRecord) -> bool {
    record.headers.iter().any(|header| header.is(header::PARTLY_COMPENSATED))
}

#[cfg(test)]
mod tests;

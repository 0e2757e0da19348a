//! The attributes of an event in a record, read from binary and structured mode.

use std::{borrow::Cow, collections::HashSet};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::Deserialize;

use super::header;
use crate::{
    dead_letter::{Poison, Reason},
    record::{Header, Record},
    trace::TraceContext,
};

const STRUCTURED: &str = "application/cloudevents";

/// Accepts base64 without padding, too: some producers leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The attributes in a record, in either mode.
#[derive(Default)]
pub(super) struct Attributes<'a> {
    pub(super) specversion: Option<Cow<'a, str>>,
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) source: Option<Cow<'a, str>>,
    pub(super) event_type: Option<Cow<'a, str>>,
    pub(super) time: Option<Cow<'a, str>>,
    pub(super) dataschema: Option<Cow<'a, str>>,
    pub(super) causation_id: Option<Cow<'a, str>>,
    traceparent: Option<Cow<'a, str>>,
    tracestate: Option<Cow<'a, str>>,
    pub(super) null_compensation: bool,
    pub(super) compensation_failed: bool,
    pub(super) partly_compensated: bool,
    pub(super) data: Option<Cow<'a, [u8]>>,
}

impl Attributes<'_> {
    pub(super) fn trace(&self) -> TraceContext {
        TraceContext::read(self.traceparent.as_deref(), self.tracestate.as_deref())
    }

    /// Takes the other context as a whole when there is none yet. `traceparent` and `tracestate` always come from the
    /// same source.
    fn or_trace(&mut self, traceparent: Option<String>, tracestate: Option<String>) {
        if self.traceparent.is_none() {
            self.traceparent = traceparent.map(Cow::Owned);
            self.tracestate = tracestate.map(Cow::Owned);
        }
    }
}

/// The part of a structured-mode value that is read.
#[derive(Deserialize)]
struct Structured<'a> {
    specversion: Option<String>,
    id: Option<String>,
    source: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    time: Option<String>,
    dataschema: Option<String>,
    causationid: Option<String>,
    traceparent: Option<String>,
    tracestate: Option<String>,
    nullcompensation: Option<serde_json::Value>,
    compensationfailed: Option<serde_json::Value>,
    partlycompensated: Option<serde_json::Value>,
    #[serde(borrow)]
    data: Option<&'a serde_json::value::RawValue>,
    data_base64: Option<String>,
}

/// Reads the record in the mode that its content type names.
///
/// # Errors
/// When the value does not match the content type.
pub(super) fn read(record: &Record) -> Result<Attributes<'_>, Poison> {
    match content_type(record) {
        Some(content_type) if is_structured(content_type) => structured(record),
        _ => Ok(binary(record)),
    }
}

/// Reads the attributes from the headers.
pub(super) fn binary(record: &Record) -> Attributes<'_> {
    let mut attributes = Attributes { data: record.value.as_deref().map(Cow::Borrowed), ..Attributes::default() };
    let (mut traceparent, mut tracestate) = (None, None);
    for Header { name, value } in &record.headers {
        let value = || text(value.as_deref());
        match std::str::from_utf8(name) {
            Ok(header::SPECVERSION) => attributes.specversion = value(),
            Ok(header::ID) => attributes.id = value(),
            Ok(header::SOURCE) => attributes.source = value(),
            Ok(header::TYPE) => attributes.event_type = value(),
            Ok(header::TIME) => attributes.time = value(),
            Ok(header::DATASCHEMA) => attributes.dataschema = value(),
            Ok(header::CAUSATION_ID) => attributes.causation_id = value(),
            Ok(header::TRACEPARENT) => attributes.traceparent = value(),
            Ok(header::TRACESTATE) => attributes.tracestate = value(),
            Ok(header::CE_TRACEPARENT) => traceparent = value(),
            Ok(header::CE_TRACESTATE) => tracestate = value(),
            Ok(header::NULL_COMPENSATION) => attributes.null_compensation = value().as_deref() == Some("true"),
            Ok(header::COMPENSATION_FAILED) => attributes.compensation_failed = value().as_deref() == Some("true"),
            Ok(header::PARTLY_COMPENSATED) => attributes.partly_compensated = value().as_deref() == Some("true"),
            _ => {}
        }
    }
    // The bare headers are the context of this hop; the extension attributes are the context of the origin.
    attributes.or_trace(traceparent.map(Cow::into_owned), tracestate.map(Cow::into_owned));
    attributes
}

fn structured(record: &Record) -> Result<Attributes<'_>, Poison> {
    let undecodable = |what: &str| Poison::new(Reason::Undecodable, what);
    let value = record.value.as_deref().ok_or_else(|| undecodable("the record has no value"))?;
    let event: Structured<'_> =
        serde_json::from_slice(value).map_err(|_| undecodable("the value is not a CloudEvent in JSON"))?;
    let data = match (event.data, event.data_base64) {
        (Some(_), Some(_)) => return Err(Poison::new(Reason::Invalid, "the event has both data and data_base64")),
        (Some(data), None) => Some(Cow::Borrowed(data.get().as_bytes())),
        (None, Some(text)) => {
            Some(Cow::Owned(BASE64.decode(text).map_err(|_| undecodable("data_base64 is not base64"))?))
        }
        (None, None) => None,
    };
    let Attributes { traceparent, tracestate, .. } = binary(record);
    let mut attributes = Attributes {
        specversion: event.specversion.map(Cow::Owned),
        id: event.id.map(Cow::Owned),
        source: event.source.map(Cow::Owned),
        event_type: event.event_type.map(Cow::Owned),
        time: event.time.map(Cow::Owned),
        dataschema: event.dataschema.map(Cow::Owned),
        causation_id: event.causationid.map(Cow::Owned),
        traceparent,
        tracestate,
        null_compensation: is_true(event.nullcompensation),
        compensation_failed: is_true(event.compensationfailed),
        partly_compensated: is_true(event.partlycompensated),
        data,
    };
    attributes.or_trace(event.traceparent, event.tracestate);
    Ok(attributes)
}

/// A boolean attribute, which some producers write as a text.
fn is_true(value: Option<serde_json::Value>) -> bool {
    value.is_some_and(|value| value == true || value == "true")
}

/// Why a record has no type, for the owner of its producer.
pub(super) fn why_untyped(record: &Record) -> &'static str {
    let is_structured = content_type(record).is_some_and(is_structured);
    let event = record.value.as_deref().and_then(|value| serde_json::from_slice::<Structured<'_>>(value).ok());
    match event {
        _ if is_structured => "the CloudEvent in the value has no type",
        Some(Structured { specversion: Some(_), event_type: Some(_), .. }) => {
            "the record has no ce_type; its value looks like a CloudEvent in structured mode, which is read as one when its \
             content-type is application/cloudevents+json"
        }
        _ => "the record has no ce_type",
    }
}

/// The first error in the headers themselves.
pub(super) fn header_flaw(record: &Record) -> Option<Poison> {
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

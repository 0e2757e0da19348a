//! One entry of a saga's timeline.

use jiff::Timestamp;
use saga_core::graph::{How, NodeKind};
use serde::Serialize;

/// The kind of a timeline entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EntryKind {
    Event,
    /// An event whose id occurred before; consumers pass it over.
    Duplicate,
    DeadLetter,
    /// A record that is not an event.
    Unreadable,
}

/// The step that published an event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct ProducedBy {
    pub(crate) step: &'static str,
    pub(crate) kind: NodeKind,
    pub(crate) how: How,
    /// The step that a compensation compensates.
    pub(crate) compensates: Option<&'static str>,
}

/// The event that caused this one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Cause {
    pub(crate) event_id: String,
    /// None when the topics no longer hold the event.
    pub(crate) event: Option<String>,
}

/// The details of a dead letter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct DeadLetterDetails {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) attempts: Option<u32>,
    pub(crate) first_failed_at: Option<Timestamp>,
    pub(crate) topic: String,
    pub(crate) partition: Option<i32>,
    pub(crate) offset: Option<i64>,
    /// The step that did not run because of it, if the flow knows one.
    pub(crate) step: Option<&'static str>,
}

/// A record's position.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct RecordPosition {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl TimelineEntry {
    /// Removes everything that was concluded from names shared with another flow.
    pub(crate) fn of_another_flow(self) -> Self {
        Self { known: false, made_by: None, ..self }
    }
}

/// One entry of the timeline.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct TimelineEntry {
    pub(crate) at: Timestamp,
    pub(crate) since_previous_ms: f64,
    pub(crate) what: EntryKind,
    /// The participant that published or dead-lettered the event.
    pub(crate) participant: String,
    pub(crate) event: Option<String>,
    pub(crate) version: Option<u32>,
    pub(crate) event_id: Option<String>,
    /// Whether the flow declares the event.
    pub(crate) known: bool,
    /// Whether the event was published before under another id. Its step has run once.
    pub(crate) again: bool,
    pub(crate) null_compensation: bool,
    /// Whether the event's compensation failed for good.
    pub(crate) compensation_failed: bool,
    /// Whether the event follows from such a compensation, or is its event.
    pub(crate) partly_compensated: bool,
    pub(crate) reason: Option<String>,
    pub(crate) made_by: Option<ProducedBy>,
    pub(crate) caused_by: Option<Cause>,
    pub(crate) dead_letter: Option<DeadLetterDetails>,
    /// Why the record is not an event.
    pub(crate) fault: Option<String>,
    pub(crate) record: RecordPosition,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<serde_json::Value>,
}

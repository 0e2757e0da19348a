//! A line of a saga's story.

use jiff::Timestamp;
use saga_core::graph::{How, NodeKind};
use serde::Serialize;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Event,
    /// An event under an id that was there before: everyone passes it over.
    Duplicate,
    DeadLetter,
    /// A record that is no event.
    Unreadable,
}

/// The step that published an event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Made {
    pub(crate) step: &'static str,
    pub(crate) kind: NodeKind,
    pub(crate) how: How,
    /// The step that a compensation undoes.
    pub(crate) undoes: Option<&'static str>,
}

/// The event that was handled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Cause {
    pub(crate) event_id: String,
    /// None when the topics do not hold it.
    pub(crate) event: Option<String>,
}

/// Who gave up on what, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct GivenUp {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) attempts: Option<u32>,
    pub(crate) first_failed_at: Option<Timestamp>,
    pub(crate) topic: String,
    pub(crate) partition: Option<i32>,
    pub(crate) offset: Option<i64>,
    /// The step whose answer is missing since then, where the flow knows one.
    pub(crate) step: Option<&'static str>,
}

/// Where a record stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl Moment {
    /// Nothing follows from names that this flow has too.
    pub(crate) fn of_another_flow(self) -> Self {
        Self { known: false, made_by: None, ..self }
    }
}

/// A line of the story.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Moment {
    pub(crate) at: Timestamp,
    pub(crate) since_previous_ms: f64,
    pub(crate) what: Kind,
    /// Who published the event, or gave up on it.
    pub(crate) participant: String,
    pub(crate) event: Option<String>,
    pub(crate) version: Option<u32>,
    pub(crate) event_id: Option<String>,
    /// Whether a participant of the flow declares the event.
    pub(crate) known: bool,
    /// The same event was published before under another id: its step is done once.
    pub(crate) again: bool,
    pub(crate) null_compensation: bool,
    pub(crate) reason: Option<String>,
    pub(crate) made_by: Option<Made>,
    pub(crate) caused_by: Option<Cause>,
    pub(crate) dead_letter: Option<GivenUp>,
    /// Why a record is no event.
    pub(crate) fault: Option<String>,
    pub(crate) record: Place,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<serde_json::Value>,
}

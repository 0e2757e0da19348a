//! The JSON form of declarations: services print it, and tools in any language read it.
//!
//! A participant is `{"format": "saga.participant/1", "name", "steps", "publishes", "ends", "events"}`, a choreography
//! `{"format": "saga.choreography/1", "participants", "events", "edges"}`. A step that publishes one event on success has
//! `"success": "order.created/1"`; one that chooses, or publishes several at once, has `"successes": [["a.done/1", "b.done/1"],
//! ["c.done/1"]]`, the alternatives and the events of each; a refusal likewise. Steps refer to events as `order.created/1`, the end
//! of their schema's `$id`; `events` says the topic and the schema of each. Fields may be added within a format.

mod read;
mod write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::graph::{Choreography, Declaration, Ending, EventKey, How, NodeKind};

pub use read::DeclarationError;

const PARTICIPANT: &str = "saga.participant/1";
const CHOREOGRAPHY: &str = "saga.choreography/1";

#[derive(Serialize, Deserialize)]
struct ParticipantDoc {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    name: String,
    #[serde(default, skip_serializing_if = "is_false")]
    optional: bool,
    steps: Vec<StepDoc>,
    #[serde(default)]
    publishes: Vec<EventKeyDoc>,
    #[serde(default)]
    ends: Vec<EndDoc>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    accepted: Vec<AcceptedDoc>,
    /// In a choreography, only those events that the participant declares differently from the choreography's list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    events: Vec<EventDoc>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Serialize, Deserialize)]
struct AcceptedDoc {
    rule: String,
    why: String,
}

#[derive(Serialize, Deserialize)]
struct EndDoc {
    event: EventKeyDoc,
    ending: Ending,
}

#[derive(Serialize, Deserialize)]
struct StepDoc {
    name: String,
    triggers: Vec<EventKeyDoc>,
    /// Joins only: the triggers by parts, of which each has to arrive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    all_of: Vec<Vec<EventKeyDoc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    success: Option<EventKeyDoc>,
    /// Instead of `success`, where that is not a single event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    successes: Vec<Vec<EventKeyDoc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refusal: Option<EventKeyDoc>,
    /// Instead of `refusal`, where that is not a single event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    refusals: Vec<Vec<EventKeyDoc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compensation: Option<CompensationDoc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<DeadlineDoc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    saga_deadline: Option<DeadlineDoc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    arrivals_deadline: Option<DeadlineDoc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rounds: Option<u32>,
    #[serde(default)]
    effect: bool,
    #[serde(default)]
    pivot: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    until_it_succeeds: bool,
}

#[derive(Serialize, Deserialize)]
struct CompensationDoc {
    name: String,
    triggers: Vec<EventKeyDoc>,
    /// Joins only: the triggers by parts, of which each has to arrive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    all_of: Vec<Vec<EventKeyDoc>>,
    event: EventKeyDoc,
    #[serde(default)]
    effect: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    best_effort: bool,
}

#[derive(Serialize, Deserialize)]
struct DeadlineDoc {
    after_ms: u64,
    event: EventKeyDoc,
}

/// `order.created/1`.
type EventKeyDoc = String;

#[derive(Serialize, Deserialize)]
struct EventDoc {
    name: String,
    version: u32,
    topic: String,
    /// The field of the data that holds the saga's id, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    saga: Option<String>,
    schema: Value,
}

#[derive(Serialize)]
struct ChoreographyDoc<'a> {
    format: &'static str,
    participants: Vec<ParticipantDoc>,
    events: Vec<EventNodeDoc<'a>>,
    edges: Vec<EdgeDoc<'a>>,
}

/// The part of a choreography's document that is read: the edges follow from the rest.
#[derive(Deserialize)]
struct Read {
    participants: Vec<ParticipantDoc>,
    events: Vec<EventDoc>,
}

#[derive(Serialize)]
struct EventNodeDoc<'a> {
    id: EventKey,
    #[serde(flatten)]
    event: EventDoc,
    published_by: Vec<PublisherDoc<'a>>,
    consumed_by: Vec<NodeDoc<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Ending>,
}

#[derive(Serialize)]
struct PublisherDoc<'a> {
    #[serde(flatten)]
    node: NodeDoc<'a>,
    how: How,
}

#[derive(Serialize)]
struct NodeDoc<'a> {
    participant: &'a str,
    kind: NodeKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a str>,
}

#[derive(Serialize)]
struct EdgeDoc<'a> {
    event: EventKey,
    how: How,
    from: NodeDoc<'a>,
    to: TargetDoc<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum TargetDoc<'a> {
    Node(NodeDoc<'a>),
    End { end: Ending },
}

impl Choreography {
    /// The choreography as JSON: `participants`, `events` with their schemas, and `edges`.
    pub fn to_json(&self) -> Value {
        // Plain texts, numbers and lists: serialising them cannot fail.
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl Declaration {
    /// The declaration as JSON, with the schemas of its events.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;

//! The JSON form of a choreography, for programs. Events are referred to as `order.created/1`, the end of their schema's `$id`.

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{
    event::EventType,
    graph::{Choreography, Declaration, Edge, Ending, EventKey, How, Node, NodeKind, StepSpec, Target},
};

impl Serialize for EventKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Choreography {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Document::of(self).serialize(serializer)
    }
}

impl Choreography {
    /// The choreography as JSON: `participants`, `events` and `edges`.
    pub fn to_json(&self) -> Value {
        // Only texts, numbers and lists: nothing in it can fail to be written.
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Document<'a> {
    participants: Vec<ParticipantDoc<'a>>,
    events: Vec<EventDoc<'a>>,
    edges: Vec<EdgeDoc<'a>>,
}

#[derive(Serialize)]
struct ParticipantDoc<'a> {
    name: &'a str,
    steps: Vec<StepDoc<'a>>,
    publishes: Vec<EventKey>,
    ends: Vec<EndDoc>,
}

#[derive(Serialize)]
struct EndDoc {
    event: EventKey,
    ending: Ending,
}

#[derive(Serialize)]
struct StepDoc<'a> {
    name: &'a str,
    triggers: Vec<EventKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<EventKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<EventKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    undo: Option<UndoDoc<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<DeadlineDoc>,
    effect: bool,
    pivot: bool,
}

#[derive(Serialize)]
struct UndoDoc<'a> {
    name: &'a str,
    triggers: Vec<EventKey>,
    event: EventKey,
    effect: bool,
}

#[derive(Serialize)]
struct DeadlineDoc {
    after_ms: u64,
    event: EventKey,
}

#[derive(Serialize)]
struct EventDoc<'a> {
    id: EventKey,
    name: &'a str,
    version: u32,
    topic: &'a str,
    schema: String,
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

impl<'a> Document<'a> {
    fn of(flow: &'a Choreography) -> Self {
        let event = |(id, node): (EventKey, &'a crate::graph::EventNode)| EventDoc {
            id,
            name: id.name,
            version: id.version,
            topic: node.event.topic,
            schema: format!("/schemas/{id}"),
            published_by: flow.producers(id).map(|(n, how)| PublisherDoc { node: NodeDoc::of(n), how }).collect(),
            consumed_by: flow.consumers(id).map(NodeDoc::of).collect(),
            end: node.end,
        };
        Self {
            participants: flow.declarations().iter().map(ParticipantDoc::of).collect(),
            events: flow.events().map(event).collect(),
            edges: flow.edges().into_iter().map(EdgeDoc::of).collect(),
        }
    }
}

fn keys(events: &[EventType]) -> Vec<EventKey> {
    events.iter().copied().map(EventKey::from).collect()
}

impl<'a> ParticipantDoc<'a> {
    fn of(declaration: &'a Declaration) -> Self {
        let ends = declaration.ends.iter().map(|end| EndDoc { event: end.event.into(), ending: end.ending });
        Self {
            name: declaration.participant,
            steps: declaration.steps.iter().map(StepDoc::of).collect(),
            publishes: keys(&declaration.publishes),
            ends: ends.collect(),
        }
    }
}

impl<'a> StepDoc<'a> {
    fn of(step: &'a StepSpec) -> Self {
        let undo = step.undo.as_ref().map(|undo| UndoDoc {
            name: undo.name,
            triggers: keys(&undo.triggers),
            event: undo.event.into(),
            effect: undo.effect,
        });
        let deadline = step.deadline.as_ref().map(|deadline| DeadlineDoc {
            after_ms: u64::try_from(deadline.after.as_millis()).unwrap_or(u64::MAX),
            event: deadline.event.into(),
        });
        Self {
            name: step.name,
            triggers: keys(&step.triggers),
            success: step.success.map(EventKey::from),
            refusal: step.refusal.map(EventKey::from),
            undo,
            deadline,
            effect: step.effect,
            pivot: step.pivot,
        }
    }
}

impl<'a> NodeDoc<'a> {
    fn of(node: &'a Node) -> Self {
        let step = (node.kind != NodeKind::Request).then_some(node.step);
        Self { participant: node.participant, kind: node.kind, step }
    }
}

impl<'a> EdgeDoc<'a> {
    fn of(edge: Edge<'a>) -> Self {
        let to = match edge.to {
            Target::Node(node) => TargetDoc::Node(NodeDoc::of(node)),
            Target::End(end) => TargetDoc::End { end },
        };
        Self { event: edge.event, how: edge.how, from: NodeDoc::of(edge.from), to }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::graph::fixture::order_flow;

    #[test]
    fn programs_read_steps_events_and_edges() {
        let flow = order_flow().to_json();
        let register = &flow["participants"][0]["steps"][0];
        assert_eq!(register["deadline"], json!({"after_ms": 300_000, "event": "order.cancellation_requested/1"}));
        let released = flow["events"].as_array().unwrap().iter().find(|e| e["name"] == "inventory.released").unwrap();
        assert_eq!(
            *released,
            json!({
                "id": "inventory.released/1", "name": "inventory.released", "version": 1,
                "topic": "inventory.events", "schema": "/schemas/inventory.released/1",
                "published_by": [{"participant": "inventory", "kind": "compensation", "step": "reserve", "how": "undone"}],
                "consumed_by": [{"participant": "order", "kind": "action", "step": "cancel"}],
            })
        );
        let last = flow["edges"].as_array().unwrap().iter().find(|e| e["event"] == "order.cancelled/1").unwrap();
        assert_eq!(last["to"], json!({"end": "undone"}));
    }
}

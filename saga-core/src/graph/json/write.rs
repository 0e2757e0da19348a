//! Declarations as JSON.

use serde::{Serialize, Serializer};

use super::{
    AcceptedDoc, CHOREOGRAPHY, ChoreographyDoc, CompensationDoc, DeadlineDoc, EdgeDoc, EndDoc, EventDoc, EventKeyDoc,
    EventNodeDoc, NodeDoc, PARTICIPANT, ParticipantDoc, PublisherDoc, StepDoc, TargetDoc,
};
use crate::{
    event::EventType,
    graph::{
        Choreography, DeadlineSpec, Declaration, Edge, Emits, EventKey, EventNode, Node, NodeKind, StepSpec, Target,
        Triggers,
    },
};

impl Serialize for EventKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Declaration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = ParticipantDoc::of(self, |_| true);
        document.format = Some(PARTICIPANT.to_owned());
        document.serialize(serializer)
    }
}

impl Serialize for Choreography {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ChoreographyDoc::of(self).serialize(serializer)
    }
}

impl<'a> ChoreographyDoc<'a> {
    fn of(flow: &'a Choreography) -> Self {
        let event = |(id, node): (EventKey, &'a EventNode)| EventNodeDoc {
            id,
            event: EventDoc::of(node.event),
            published_by: flow.producers(id).map(|(n, how)| PublisherDoc { node: NodeDoc::of(n), how }).collect(),
            consumed_by: flow.consumers(id).map(NodeDoc::of).collect(),
            end: node.end,
        };
        let differs = |event: EventType| {
            let listed = flow.event(event.into()).map(|node| node.event);
            listed.is_none_or(|listed| listed != event || listed.schema() != event.schema())
        };
        Self {
            format: CHOREOGRAPHY,
            participants: flow.declarations().iter().map(|d| ParticipantDoc::of(d, differs)).collect(),
            events: flow.events().map(event).collect(),
            edges: flow.edges().into_iter().map(EdgeDoc::of).collect(),
        }
    }
}

fn key(event: EventType) -> EventKeyDoc {
    EventKey::from(event).to_string()
}

fn keys(events: &[EventType]) -> Vec<EventKeyDoc> {
    events.iter().copied().map(key).collect()
}

/// The alternatives, unless they are a single event.
fn several(emits: &Emits) -> Vec<Vec<EventKeyDoc>> {
    match emits.only() {
        Some(_) => Vec::new(),
        None => emits.alternatives().iter().map(|events| keys(events)).collect(),
    }
}

/// The parts of a join; none when one event suffices.
fn parts(triggers: &Triggers) -> Vec<Vec<EventKeyDoc>> {
    if triggers.is_join() { triggers.parts().map(keys).collect() } else { Vec::new() }
}

impl ParticipantDoc {
    fn of(declaration: &Declaration, with: impl Fn(EventType) -> bool) -> Self {
        let mut events: Vec<EventType> = Vec::new();
        for event in declaration.events() {
            if with(event) && events.iter().all(|known| EventKey::from(*known) != EventKey::from(event)) {
                events.push(event);
            }
        }
        Self {
            format: None,
            name: declaration.participant.to_owned(),
            optional: declaration.optional,
            steps: declaration.steps.iter().map(StepDoc::of).collect(),
            publishes: keys(&declaration.publishes),
            ends: declaration.ends.iter().map(|end| EndDoc { event: key(end.event), ending: end.ending }).collect(),
            accepted: declaration
                .accepted
                .iter()
                .map(|accepted| AcceptedDoc { rule: accepted.rule.name().to_owned(), why: accepted.why.to_owned() })
                .collect(),
            events: events.into_iter().map(EventDoc::of).collect(),
        }
    }
}

impl EventDoc {
    fn of(event: EventType) -> Self {
        let mut schema = event.schema();
        // Sorts the keys, since their order otherwise depends on the features of serde_json that other crates enable.
        schema.sort_all_objects();
        let saga = event.saga_field.map(str::to_owned);
        Self { name: event.name.to_owned(), version: event.version, topic: event.topic.to_owned(), saga, schema }
    }
}

impl StepDoc {
    fn of(step: &StepSpec) -> Self {
        let compensation = step.compensation.as_ref().map(|undo| CompensationDoc {
            name: undo.name.to_owned(),
            triggers: keys(&undo.triggers),
            all_of: parts(&undo.triggers),
            event: key(undo.event),
            effect: undo.effect,
            best_effort: undo.best_effort,
        });
        let deadline = |deadline: &DeadlineSpec| DeadlineDoc {
            after_ms: u64::try_from(deadline.after.as_millis()).unwrap_or(u64::MAX),
            event: key(deadline.event),
        };
        Self {
            name: step.name.to_owned(),
            triggers: keys(&step.triggers),
            all_of: parts(&step.triggers),
            success: step.success.only().map(key),
            successes: several(&step.success),
            refusal: step.refusal.only().map(key),
            refusals: several(&step.refusal),
            compensation,
            deadline: step.deadline.as_ref().map(deadline),
            saga_deadline: step.saga_deadline.as_ref().map(deadline),
            arrivals_deadline: step.arrivals_deadline.as_ref().map(deadline),
            rounds: step.rounds,
            effect: step.effect,
            pivot: step.pivot,
            until_it_succeeds: step.until_it_succeeds,
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

//! Finds the declaration of an event and the step that published it.

use saga_core::{
    envelope::DEADLINE_CAUSE,
    graph::{Choreography, EventKey, How, Node},
};

use crate::event::Event;

/// The event's declaration in its version, if the flow has one. Two flows may share an event name and a topic. The event
/// belongs to the other flow when its data lacks the saga's id where this flow's data has it. Unreadable data tells nothing.
pub fn declared_event(flow: &Choreography, event: &Event) -> Option<EventKey> {
    let (key, node) = flow.events_named(&event.kind).find(|(key, _)| key.version == event.version)?;
    let holds = |field: &str| event.saga_fields.as_ref().is_none_or(|fields| fields.iter().any(|held| held == field));
    let holds_its_saga = node.event.saga_field.is_none_or(holds);
    holds_its_saga.then_some(key)
}

/// The step that published the event, and why. It is a step of the event's source that consumes the event's cause.
pub fn producing_step<'a>(flow: &'a Choreography, event: &Event, cause: Option<&str>) -> Option<(&'a Node, How)> {
    let keys: Vec<EventKey> = flow.events_named(&event.kind).map(|(key, _)| key).collect();
    let nodes = keys.iter().flat_map(|key| flow.producers(*key)).filter(|(node, _)| node.participant == event.source);
    let nodes: Vec<_> = nodes.collect();
    let takes = |node: &Node| node.triggers.iter().any(|trigger| cause == Some(trigger.name));
    // A deadline's event names the deadline as its cause.
    let is_deadline = event.cause.as_deref().is_some_and(|cause| cause.starts_with(DEADLINE_CAUSE));
    let fits = |(node, how): &&(&Node, How)| match how {
        How::Request => event.cause.is_none(),
        How::Deadline => is_deadline,
        How::Success | How::Refusal | How::Compensated => takes(node),
    };
    nodes.iter().find(fits).or(nodes.first()).copied()
}

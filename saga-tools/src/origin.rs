//! Which step of which participant has published an event.

use saga_core::{
    envelope::DEADLINE_CAUSE,
    graph::{Choreography, EventKey, How, Node},
};

use crate::event::Event;

/// The event's declaration, in its version; none for a foreign one. Two flows may have events of one name on one topic: one
/// whose data does not hold its saga where the flow's does is the other's.
pub fn declared(flow: &Choreography, event: &Event) -> Option<EventKey> {
    let (key, node) = flow.events_named(&event.kind).find(|(key, _)| key.version == event.version)?;
    let holds_its_saga = node.event.saga_field.is_none_or(|field| event.saga_fields.iter().any(|held| held == field));
    holds_its_saga.then_some(key)
}

/// What has published the event, and why: the node of its source that takes what it was caused by, or, without a cause,
/// one that needs none.
pub fn origin<'a>(flow: &'a Choreography, event: &Event, cause: Option<&str>) -> Option<(&'a Node, How)> {
    let keys: Vec<EventKey> = flow.events_named(&event.kind).map(|(key, _)| key).collect();
    let nodes = keys.iter().flat_map(|key| flow.producers(*key)).filter(|(node, _)| node.participant == event.source);
    let nodes: Vec<_> = nodes.collect();
    let takes = |node: &Node| node.triggers.iter().any(|trigger| cause == Some(trigger.name));
    // What a deadline publishes is caused by it, and by no event.
    let has_passed = event.cause.as_deref().is_some_and(|cause| cause.starts_with(DEADLINE_CAUSE));
    let fits = |(node, how): &&(&Node, How)| match how {
        How::Request => event.cause.is_none(),
        How::Deadline => has_passed,
        How::Success | How::Refusal | How::Compensated => takes(node),
    };
    nodes.iter().find(fits).or(nodes.first()).copied()
}

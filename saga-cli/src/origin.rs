//! Which step of which participant has published an event.

use order_flow_events::Reason;
use saga_core::graph::{Choreography, EventKey, How, Node};

use crate::event::Event;

/// The event's declaration, in its version; none for a foreign one.
pub(crate) fn declared(flow: &Choreography, kind: &str, version: u32) -> Option<EventKey> {
    flow.events_named(kind).map(|(key, _)| key).find(|key| key.version == version)
}

/// What has published the event, and why: the node of its source that takes what it was caused by, or, without a cause,
/// one that needs none.
pub(crate) fn origin<'a>(flow: &'a Choreography, event: &Event, cause: Option<&str>) -> Option<(&'a Node, How)> {
    let keys: Vec<EventKey> = flow.events_named(&event.kind).map(|(key, _)| key).collect();
    let nodes = keys.iter().flat_map(|key| flow.producers(*key)).filter(|(node, _)| node.participant == event.source);
    let nodes: Vec<_> = nodes.collect();
    let takes = |node: &Node| node.triggers.iter().any(|trigger| cause == Some(trigger.name));
    let has_passed = event.reason.as_deref() == Some(Reason::Deadline.as_str());
    let fits = |(node, how): &&(&Node, How)| match how {
        How::Request => cause.is_none() && !has_passed,
        How::Deadline => has_passed,
        How::Success | How::Refusal | How::Undone => takes(node),
    };
    nodes.iter().find(fits).or(nodes.first()).copied()
}

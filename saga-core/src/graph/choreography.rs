//! The merged graph: the publishers and consumers of every event, and the nodes that it starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    event::EventType,
    graph::{Declaration, Ending, How, Node, NodeKind, Publication, StepSpec, node::nodes_of},
};

/// An event and its version, which together name one contract.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EventKey {
    /// The CloudEvents type.
    pub name: &'static str,
    /// The version of the data's schema.
    pub version: u32,
}

impl From<EventType> for EventKey {
    fn from(event: EventType) -> Self {
        Self { name: event.name, version: event.version }
    }
}

impl fmt::Display for EventKey {
    /// `order.created/1`, as at the end of `ce_dataschema`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

/// An event of the choreography.
#[derive(Clone, Debug)]
pub struct EventNode {
    /// The event type as the first participant declares it.
    pub event: EventType,
    /// How a saga ends with this event; none when the saga goes on.
    pub end: Option<Ending>,
}

/// Where an edge leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target<'a> {
    /// A node that the event starts.
    Node(&'a Node),
    /// To the end of the saga.
    End(Ending),
}

/// An event between its publisher and a node that it starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edge<'a> {
    /// The event.
    pub event: EventKey,
    /// The reason for its publication.
    pub how: How,
    /// Its publisher.
    pub from: &'a Node,
    /// The node that it starts, or the end.
    pub to: Target<'a>,
}

/// All participants' declarations together. It is plain data.
///
/// ```
/// use saga_core::graph::Choreography;
/// let nothing = Choreography::of(Vec::new());
/// assert!(nothing.check().is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct Choreography {
    declarations: Vec<Declaration>,
    nodes: Vec<Node>,
    events: BTreeMap<EventKey, EventNode>,
    /// The nodes that an event starts, and those that publish it, by their positions: the rules ask for them often.
    consumers: BTreeMap<EventKey, Vec<usize>>,
    producers: BTreeMap<EventKey, Vec<(usize, How)>>,
    /// The events that optional participants consume, when those are left out: see [`Choreography::required`].
    pub(super) offered: BTreeSet<EventKey>,
}

impl Choreography {
    /// Merges the declarations. Contradictions between them are kept, and [`Choreography::check`] finds them.
    pub fn of(declarations: Vec<Declaration>) -> Self {
        let nodes: Vec<Node> = declarations.iter().enumerate().flat_map(|(owner, d)| nodes_of(owner, d)).collect();
        let (mut consumers, mut producers) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        for (index, node) in nodes.iter().enumerate() {
            for event in node.triggers.iter().copied().collect::<BTreeSet<_>>() {
                consumers.entry(event).or_default().push(index);
            }
            for (place, publication) in node.publishes.iter().enumerate() {
                let is_first = node.publishes[..place].iter().all(|earlier| earlier.event != publication.event);
                if is_first {
                    producers.entry(publication.event).or_default().push((index, publication.how));
                }
            }
        }
        let mut events = BTreeMap::new();
        for event in declarations.iter().flat_map(declared_events) {
            events.entry(EventKey::from(event)).or_insert(EventNode { event, end: None });
        }
        for end in declarations.iter().flat_map(|d| &d.ends) {
            let node = EventNode { event: end.event, end: None };
            events.entry(EventKey::from(end.event)).or_insert(node).end = Some(end.ending);
        }
        Self { declarations, nodes, events, consumers, producers, offered: BTreeSet::new() }
    }

    /// The flow without its optional participants, as sagas depend on it.
    pub(super) fn required(&self) -> Self {
        let required = self.declarations.iter().filter(|declaration| !declaration.optional).cloned().collect();
        let optional = self.nodes.iter().filter(|node| node.optional);
        let offered = optional.flat_map(|node| node.triggers.iter().copied()).collect();
        Self { offered, ..Self::of(required) }
    }

    /// The declarations, as given.
    pub fn declarations(&self) -> &[Declaration] {
        &self.declarations
    }

    /// Every node, participant by participant, in the order of their declarations.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Every event, by name and version.
    pub fn events(&self) -> impl Iterator<Item = (EventKey, &EventNode)> {
        self.events.iter().map(|(key, node)| (*key, node))
    }

    /// The event, when a participant declares it.
    pub fn event(&self, key: EventKey) -> Option<&EventNode> {
        self.events.get(&key)
    }

    /// Every version of the event of that name, the newest last.
    pub fn events_named(&self, name: &str) -> impl Iterator<Item = (EventKey, &EventNode)> {
        self.events().filter(move |(key, _)| key.name == name)
    }

    /// How a saga ends with the event; none when it goes on.
    pub fn end(&self, event: EventKey) -> Option<Ending> {
        self.events.get(&event).and_then(|node| node.end)
    }

    /// The nodes that the event starts.
    pub fn consumers(&self, event: EventKey) -> impl Iterator<Item = &Node> {
        self.consumers.get(&event).into_iter().flatten().filter_map(|index| self.nodes.get(*index))
    }

    /// The nodes that publish the event, and the reasons.
    pub fn producers(&self, event: EventKey) -> impl Iterator<Item = (&Node, How)> {
        let producers = self.producers.get(&event).into_iter().flatten();
        producers.filter_map(|(index, how)| self.nodes.get(*index).map(|node| (node, *how)))
    }

    /// The step's declaration; none for a request.
    pub fn spec(&self, node: &Node) -> Option<&StepSpec> {
        let steps = &self.declarations.get(node.owner)?.steps;
        if node.kind == NodeKind::Request { None } else { steps.get(node.spec) }
    }

    /// The compensation of this action.
    pub fn compensation_of(&self, action: &Node) -> Option<&Node> {
        let place = (action.owner, action.spec);
        self.nodes.iter().find(|n| n.kind == NodeKind::Compensation && (n.owner, n.spec) == place)
    }

    /// The events that start a saga: those requested from outside that trigger an action. A request that only joins wait for
    /// starts none, unless requests are all that such a join waits for.
    pub fn starts(&self) -> Vec<EventKey> {
        let requests_suffice =
            |node: &Node| node.triggers.parts().all(|part| part.iter().any(|event| self.is_requested(*event)));
        let starts = |node: &Node| is_needed(node) && (!node.triggers.is_join() || requests_suffice(node));
        let is_start = |event: &EventKey| self.is_requested(*event) && self.consumers(*event).any(starts);
        self.events.keys().copied().filter(is_start).collect()
    }

    /// The events from outside that a join of a saga waits for.
    pub(super) fn joined_requests(&self) -> Vec<EventKey> {
        let joins = |node: &Node| is_needed(node) && node.triggers.is_join();
        let is_joined = |event: &EventKey| self.is_requested(*event) && self.consumers(*event).any(joins);
        self.events.keys().copied().filter(is_joined).collect()
    }

    fn is_requested(&self, event: EventKey) -> bool {
        self.producers(event).any(|(_, how)| how == How::Request)
    }

    /// Whether a saga depends on an action that the event starts.
    fn starts_an_action(&self, event: EventKey) -> bool {
        self.consumers(event).any(is_needed)
    }

    /// [`Choreography::starts`], plus the triggers of actions that no participant publishes. Those come from outside,
    /// and the check asks for their declaration.
    pub fn entrances(&self) -> Vec<EventKey> {
        let from_outside = |event: &EventKey| self.producers(*event).next().is_none() && self.starts_an_action(*event);
        let mut entrances = self.starts();
        entrances.extend(self.events.keys().copied().filter(from_outside));
        entrances
    }

    /// Every edge, in the order of the nodes that it leaves.
    pub fn edges(&self) -> Vec<Edge<'_>> {
        let mut edges = Vec::new();
        for from in &self.nodes {
            for Publication { event, how } in from.publishes.iter().copied() {
                let edge = |to| Edge { event, how, from, to };
                edges.extend(self.consumers(event).map(|to| edge(Target::Node(to))));
                edges.extend(self.end(event).map(|ending| edge(Target::End(ending))));
            }
        }
        edges
    }
}

/// Whether it is an action that a saga depends on.
fn is_needed(node: &Node) -> bool {
    node.kind == NodeKind::Action && !node.optional
}

fn declared_events(declaration: &Declaration) -> impl Iterator<Item = EventType> {
    // Published events first: the publisher's declaration is the reference.
    declaration.published().chain(declaration.consumed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::fixture::{key, order_flow};

    #[test]
    fn an_event_leads_to_all_that_it_starts() {
        let flow = order_flow();
        let started: Vec<_> = flow.consumers(key("order.created")).map(|n| (n.participant, n.step)).collect();
        assert_eq!(started, [("order", "register"), ("inventory", "reserve")]);
        let made: Vec<_> = flow.producers(key("inventory.released")).map(|(n, how)| (n.name, how)).collect();
        assert_eq!(made, [("release", How::Compensated)]);
    }

    #[test]
    fn a_cancellation_request_starts_no_saga() {
        assert_eq!(order_flow().starts(), [key("order.created")]);
    }

    #[test]
    fn an_end_is_where_edges_end() {
        let flow = order_flow();
        let ends: Vec<_> = flow.edges().into_iter().filter(|e| matches!(e.to, Target::End(_))).collect();
        let names: Vec<_> = ends.iter().map(|e| (e.event.name, e.from.name)).collect();
        assert_eq!(names, [("order.confirmed", "confirm"), ("order.cancelled", "cancel")]);
    }
}

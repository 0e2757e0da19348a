//! The merged graph: the publishers and consumers of every event, and the nodes that it starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Serialize;

use crate::{
    event::EventType,
    graph::{Declaration, Ending, StepSpec, Triggers},
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

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A step's action.
    Action,
    /// The compensation of a step.
    Compensation,
    /// A request from outside the choreography, which publishes an event.
    Request,
}

/// Why an event is published.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The step succeeded.
    Success,
    /// The step refused.
    Refusal,
    /// The step was compensated, or had done nothing.
    Compensated,
    /// The step's deadline passed.
    Deadline,
    /// A request from outside asked for it.
    Request,
}

/// A publication of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publication {
    /// The event.
    pub event: EventKey,
    /// The reason.
    pub how: How,
}

/// Events that a node publishes at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeOutcome {
    /// The reason.
    pub how: How,
    /// The events.
    pub events: Vec<EventKey>,
}

/// A node of the graph: the action or the compensation of a step, or a request from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its participant.
    pub participant: &'static str,
    /// Its kind.
    pub kind: NodeKind,
    /// The step it belongs to; for a request, the event's name.
    pub step: &'static str,
    /// The handler's name; for an action, the same as `step`.
    pub name: &'static str,
    /// The events that start it.
    pub triggers: Triggers<EventKey>,
    /// The events that it may publish.
    pub publishes: Vec<Publication>,
    /// The sets of events that it may publish, each at once: those of its success and those of its refusal, of which a run
    /// publishes one set, or nothing. What a deadline publishes is not among them.
    pub outcomes: Vec<NodeOutcome>,
    /// Whether it is the action after which the saga can only go forward.
    pub pivot: bool,
    /// Whether its participant is optional: no saga waits for it.
    pub optional: bool,
    /// The index of its declaration, since two participants may wrongly have the same name.
    pub(super) owner: usize,
    /// The index of its step in the declaration.
    pub(super) spec: usize,
}

impl Node {
    /// Whether the event starts it.
    pub fn consumes(&self, event: EventKey) -> bool {
        self.triggers.contains(&event)
    }

    /// The events that it publishes for this reason.
    pub fn published(&self, how: How) -> impl Iterator<Item = EventKey> {
        self.publishes.iter().filter(move |p| p.how == how).map(|p| p.event)
    }

    /// The sets of events of which a run that ends so publishes one.
    pub fn alternatives(&self, how: How) -> impl Iterator<Item = &[EventKey]> {
        self.outcomes.iter().filter(move |outcome| outcome.how == how).map(|outcome| &outcome.events[..])
    }

    /// Whether a run publishes one of these events or the other and never both: they are alternatives of its success, or one
    /// is of its success and the other of its refusal. False for an event that it does not publish, and for that of a deadline,
    /// which passes after a success.
    pub fn excludes(&self, one: EventKey, other: EventKey) -> bool {
        let has = |event: EventKey| move |outcome: &&NodeOutcome| outcome.events.contains(&event);
        let is_published = |event| self.outcomes.iter().any(|outcome| has(event)(&outcome));
        let is_deadline = |event| self.published(How::Deadline).any(|passed| passed == event);
        let together = self.outcomes.iter().filter(has(one)).any(|outcome| has(other)(&outcome));
        is_published(one) && is_published(other) && !together && !is_deadline(one) && !is_deadline(other)
    }
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

fn nodes_of(owner: usize, declaration: &Declaration) -> Vec<Node> {
    let keys = |triggers: &Triggers| triggers.map(|event| EventKey::from(*event));
    let at_once = |events: &[EventType]| events.iter().copied().map(EventKey::from).collect::<Vec<_>>();
    let &Declaration { participant, optional, .. } = declaration;
    let mut nodes = Vec::new();
    for (spec, step) in declaration.steps.iter().enumerate() {
        let mut deadlines: Vec<EventKey> = step.deadlines().map(|(_, deadline)| deadline.event.into()).collect();
        // Several may publish the same event.
        deadlines.sort();
        deadlines.dedup();
        let deadlines = deadlines.into_iter().map(|event| Publication { event, how: How::Deadline });
        let ends = [(&step.success, How::Success), (&step.refusal, How::Refusal)];
        let publications = ends
            .into_iter()
            .flat_map(|(emits, how)| emits.events().map(move |event| Publication { event: event.into(), how }));
        let outcomes = ends.into_iter().flat_map(|(emits, how)| {
            emits.alternatives().iter().map(move |events| NodeOutcome { how, events: at_once(events) })
        });
        nodes.push(Node {
            participant,
            kind: NodeKind::Action,
            step: step.name,
            name: step.name,
            triggers: keys(&step.triggers),
            publishes: publications.chain(deadlines).collect(),
            outcomes: outcomes.collect(),
            pivot: step.pivot,
            optional,
            owner,
            spec,
        });
        nodes.extend(step.compensation.as_ref().map(|undo| Node {
            participant,
            kind: NodeKind::Compensation,
            step: step.name,
            name: undo.name,
            triggers: keys(&undo.triggers),
            publishes: vec![Publication { event: undo.event.into(), how: How::Compensated }],
            outcomes: vec![NodeOutcome { how: How::Compensated, events: vec![undo.event.into()] }],
            pivot: false,
            optional,
            owner,
            spec,
        }));
    }
    nodes.extend(declaration.publishes.iter().enumerate().map(|(spec, event)| Node {
        participant,
        kind: NodeKind::Request,
        step: event.name,
        name: event.name,
        triggers: Triggers::default(),
        publishes: vec![Publication { event: (*event).into(), how: How::Request }],
        outcomes: vec![NodeOutcome { how: How::Request, events: vec![(*event).into()] }],
        pivot: false,
        optional,
        owner,
        spec,
    }));
    nodes
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

//! The nodes of the graph: the actions and compensations of all steps, and the requests from outside.

use serde::Serialize;

use crate::{
    event::EventType,
    graph::{Declaration, EventKey, Triggers},
};

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

/// The nodes of a declaration, which is the `owner`-th of its choreography.
pub(super) fn nodes_of(owner: usize, declaration: &Declaration) -> Vec<Node> {
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

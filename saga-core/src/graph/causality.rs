//! Which events and steps can follow from others: the part of a choreography that events reach, and the steps before
//! its pivot.

use std::collections::BTreeSet;

use crate::graph::{Choreography, EventKey, How, Node, NodeKind, Publication};

/// The part of a choreography that some events reach.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach<'a> {
    pub(super) events: BTreeSet<EventKey>,
    pub(super) nodes: Vec<&'a Node>,
}

impl Reach<'_> {
    pub(super) fn has(&self, node: &Node) -> bool {
        self.nodes.iter().any(|n| same(n, node))
    }
}

/// Whether both are the same node of the graph. Compares positions, since names may be given twice.
pub(super) fn same(a: &Node, b: &Node) -> bool {
    (a.owner, a.spec, a.kind) == (b.owner, b.spec, b.kind)
}

/// An event that may start the compensation of a saga.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure<'a> {
    pub(super) event: EventKey,
    pub(super) from: &'a Node,
    pub(super) how: How,
}

impl Choreography {
    /// Everything that follows from these events alone, following only these publications: a join starts when an event of
    /// each of its parts is reached.
    pub(super) fn reach(
        &self,
        from: impl IntoIterator<Item = EventKey>,
        follow: impl Fn(&Node, Publication) -> bool,
    ) -> Reach<'_> {
        self.reach_given(from, &BTreeSet::new(), follow)
    }

    /// Everything that follows from these events in a saga in which the given ones happened too: a join takes them for its
    /// other parts, and nothing else follows from them.
    pub(super) fn reach_given(
        &self,
        from: impl IntoIterator<Item = EventKey>,
        given: &BTreeSet<EventKey>,
        follow: impl Fn(&Node, Publication) -> bool,
    ) -> Reach<'_> {
        let has_arrived = |node: &Node, reached: &BTreeSet<EventKey>| {
            node.triggers.parts().all(|part| part.iter().any(|e| reached.contains(e) || given.contains(e)))
        };
        self.reach_when(from, has_arrived, follow)
    }

    /// Everything that can follow from these events when whatever else a join waits for has happened: one part suffices.
    pub(super) fn reach_by_one_part(
        &self,
        from: impl IntoIterator<Item = EventKey>,
        follow: impl Fn(&Node, Publication) -> bool,
    ) -> Reach<'_> {
        self.reach_when(from, |_, _| true, follow)
    }

    fn reach_when(
        &self,
        from: impl IntoIterator<Item = EventKey>,
        starts: impl Fn(&Node, &BTreeSet<EventKey>) -> bool,
        follow: impl Fn(&Node, Publication) -> bool,
    ) -> Reach<'_> {
        let mut reach = Reach::default();
        let mut next: Vec<EventKey> = from.into_iter().collect();
        while let Some(event) = next.pop() {
            if !reach.events.insert(event) {
                continue;
            }
            for node in
                self.consumers(event).filter(|node| !reach.nodes.iter().any(|n| same(n, node))).collect::<Vec<_>>()
            {
                // The first arrival arms this deadline, which passes when the others do not come.
                let passed = self.arrivals_deadline(node).map(|event| Publication { event, how: How::Deadline });
                next.extend(passed.filter(|p| follow(node, *p)).map(|p| p.event));
                if starts(node, &reach.events) {
                    reach.nodes.push(node);
                    next.extend(node.publishes.iter().filter(|p| follow(node, **p)).map(|p| p.event));
                }
            }
        }
        reach
    }

    /// Everything that can follow from the event, in any saga. One part of a join suffices: this says what the event may lead to,
    /// and the other parts may come from elsewhere.
    pub(super) fn after(&self, event: EventKey) -> Reach<'_> {
        self.reach_by_one_part([event], |_, _| true)
    }

    /// Everything that can ever happen. A join needs all of its parts: what never completes never happens.
    pub(super) fn occurring(&self) -> Reach<'_> {
        let requested = self.nodes().iter().flat_map(|n| n.published(How::Request));
        self.reach(requested, |_, _| true)
    }

    /// What there is of a saga that this event starts, from outside: the event, and those that its joins wait for and that are
    /// requested meanwhile.
    fn of_saga(&self, start: EventKey) -> impl Iterator<Item = EventKey> {
        std::iter::once(start).chain(self.joined_requests())
    }

    /// What a saga runs when no step refuses, whichever event starts it. A join needs all of its parts.
    pub(super) fn reach_forward(&self) -> Reach<'_> {
        self.reach(self.starts().into_iter().chain(self.joined_requests()), is_forward)
    }

    /// The actions that a saga runs when no step refuses.
    pub(super) fn forward(&self) -> Vec<&Node> {
        self.reach_forward().nodes.into_iter().filter(|n| n.kind == NodeKind::Action).collect()
    }

    /// Whether a saga runs the action when no step refuses.
    pub fn is_forward(&self, action: &Node) -> bool {
        self.forward().iter().any(|n| same(n, action))
    }

    /// The actions that can follow from an action when no step refuses. Those that take one of its triggers are among them: a
    /// step without an event is followed by what its trigger leads to. One part of a join suffices, since this asks for an
    /// order. What only some parts of a join lead to does not follow from the join, so it is what its own events lead to.
    pub(super) fn forward_from(&self, action: &Node) -> Vec<&Node> {
        let from: Vec<EventKey> = match action.triggers.is_join() {
            true => action.published(How::Success).collect(),
            false => action.triggers.to_vec(),
        };
        let reach = self.reach_by_one_part(from, is_forward);
        reach.nodes.into_iter().filter(|n| n.kind == NodeKind::Action).collect()
    }

    /// The actions on the way to the pivot, including it. An action that ends the saga counts as a pivot. A join needs all of
    /// its parts: it is on the way when the steps before it are.
    pub(super) fn up_to_the_pivot(&self) -> Vec<&Node> {
        let from = self.starts().into_iter().chain(self.joined_requests());
        let reach = self.reach(from, |node, p| is_forward(node, p) && !self.is_final(node));
        reach.nodes.into_iter().filter(|n| n.kind == NodeKind::Action).collect()
    }

    /// The actions after which a saga can still be compensated.
    pub(super) fn before_the_pivot(&self) -> Vec<&Node> {
        self.up_to_the_pivot().into_iter().filter(|n| !self.is_final(n)).collect()
    }

    /// Whether nothing is compensated after this action.
    pub(super) fn is_final(&self, node: &Node) -> bool {
        node.pivot || self.ends_the_saga(node)
    }

    /// Whether the saga ends with the action's success, whichever alternative that is.
    pub(super) fn ends_the_saga(&self, node: &Node) -> bool {
        let mut alternatives = node.alternatives(How::Success).peekable();
        alternatives.peek().is_some() && alternatives.all(|events| events.iter().any(|e| self.end(*e).is_some()))
    }

    /// Whether a saga can run both actions when no step refuses: they follow from one start, and from one alternative of each
    /// choice.
    pub(super) fn share_a_start(&self, a: &Node, b: &Node) -> bool {
        self.in_one_saga(|follow| {
            let reach = follow(&|_| true);
            reach.has(a) && reach.has(b)
        })
    }

    /// Whether `from` can refuse in a saga in which `step` has succeeded: not every path to `step` contains the success of `from`.
    /// A join needs all of its parts, so no step that it waits for can refuse after it.
    fn may_refuse_after(&self, from: &Node, step: &Node) -> bool {
        self.in_one_saga(|follow| follow(&|_| true).has(from) && follow(&|node| !same(node, from)).has(step))
    }

    /// Whether this holds for one saga's forward actions, whatever it does at a choice. `holds` is given what a saga reaches
    /// from the successes of some nodes.
    fn in_one_saga<'a>(&'a self, holds: impl Fn(&dyn Fn(&dyn Fn(&Node) -> bool) -> Reach<'a>) -> bool) -> bool {
        self.starts().into_iter().any(|start| {
            let after = |choice: Option<(&Node, &[EventKey])>| {
                holds(&|succeeds| {
                    self.reach(self.of_saga(start), |node, p| {
                        let is_chosen = choice.is_none_or(|(at, events)| !same(node, at) || events.contains(&p.event));
                        is_forward(node, p) && is_chosen && succeeds(node)
                    })
                })
            };
            let reached = self.reach(self.of_saga(start), is_forward).nodes;
            let choices = reached.into_iter().filter(|node| node.alternatives(How::Success).nth(1).is_some());
            // Each choice by itself: two together may exclude more.
            after(None)
                && choices.into_iter().all(|at| at.alternatives(How::Success).any(|events| after(Some((at, events)))))
        })
    }

    /// Every event that may start compensation after `step` has succeeded.
    pub(super) fn later_failures(&self, step: &Node) -> Vec<Failure<'_>> {
        let mut failures = Vec::new();
        for from in self.up_to_the_pivot().into_iter().filter(|n| self.share_a_start(n, step)) {
            if !same(from, step) && self.may_refuse_after(from, step) {
                failures.extend(from.published(How::Refusal).map(|event| Failure { event, from, how: How::Refusal }));
            }
            if !self.is_final(from) {
                let passed = self.deadlines_after(from).filter(|event| self.compensates_something(*event));
                failures.extend(passed.map(|event| Failure { event, from, how: How::Deadline }));
            }
            // It passes instead of the step, so the pivot's counts too, and what follows from the step has not run.
            let passed = self.arrivals_deadline(from).filter(|event| self.compensates_something(*event));
            let passed = passed.filter(|_| !same(from, step) && self.may_refuse_after(from, step));
            failures.extend(passed.map(|event| Failure { event, from, how: How::Deadline }));
        }
        for from in self.nodes().iter().filter(|n| n.kind == NodeKind::Request) {
            let asked = from.published(How::Request).filter(|event| self.turns_back(*event, step));
            failures.extend(asked.map(|event| Failure { event, from, how: How::Request }));
        }
        failures.sort_by_key(|f| f.event);
        failures.dedup_by_key(|f| f.event);
        failures
    }

    /// What the deadlines that an action arms when it has run publish.
    pub(super) fn deadlines_after<'a>(&'a self, action: &'a Node) -> impl Iterator<Item = EventKey> + 'a {
        let spec = self.spec(action).filter(|_| action.kind == NodeKind::Action);
        let deadlines = spec.into_iter().flat_map(|spec| spec.deadline.iter().chain(&spec.saga_deadline));
        deadlines.map(|deadline| deadline.event.into())
    }

    /// What the deadline of a join publishes that passes while it waits, instead of running.
    pub(super) fn arrivals_deadline(&self, action: &Node) -> Option<EventKey> {
        let spec = self.spec(action).filter(|_| action.kind == NodeKind::Action)?;
        spec.arrivals_deadline.as_ref().map(|deadline| deadline.event.into())
    }

    /// What happens in a saga in which this event compensates something: the successes of its steps, and, after a refusal or the
    /// deadline of a join, nothing that needs the success of the step that failed.
    pub(super) fn happens_with(&self, failure: Failure<'_>) -> BTreeSet<EventKey> {
        let is_instead = failure.how == How::Refusal || self.arrivals_deadline(failure.from) == Some(failure.event);
        let from = self.starts().into_iter().chain(self.joined_requests());
        self.reach(from, |node, p| is_forward(node, p) && !(is_instead && same(node, failure.from))).events
    }

    /// Everything that follows from a failure. A join needs all of its parts: from the failure, or from what happens with it.
    pub(super) fn follows_from(&self, failure: Failure<'_>) -> Reach<'_> {
        self.reach_given([failure.event], &self.happens_with(failure), |_, _| true)
    }

    /// Whether the event leads to any compensation.
    pub(super) fn compensates_something(&self, event: EventKey) -> bool {
        self.after(event).nodes.iter().any(|n| n.kind == NodeKind::Compensation)
    }

    /// Whether the request compensates a saga that runs `step`: it starts no saga, and leads to the compensation of an
    /// action of the same saga. It does so alone: one that a join waits for goes forward with the other parts.
    fn turns_back(&self, request: EventKey, step: &Node) -> bool {
        let undone = self.reach([request], |_, p| p.how != How::Deadline);
        let of_the_same_saga = |action: &Node| {
            self.share_a_start(action, step) && self.compensation_of(action).is_some_and(|undo| undone.has(undo))
        };
        !self.starts().contains(&request) && self.forward().into_iter().any(of_the_same_saga)
    }
}

pub(super) fn is_forward(node: &Node, publication: Publication) -> bool {
    node.kind == NodeKind::Action && publication.how == How::Success
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::fixture::order_flow;

    fn names(nodes: Vec<&Node>) -> Vec<&'static str> {
        let mut names: Vec<_> = nodes.into_iter().map(|n| n.name).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_steps_before_the_pivot_follow_from_the_events() {
        let flow = order_flow();
        assert_eq!(names(flow.forward()), ["charge", "confirm", "register", "reserve", "schedule"]);
        assert_eq!(names(flow.before_the_pivot()), ["charge", "register", "reserve", "schedule"]);
    }

    #[test]
    fn only_later_failures_compensate_a_step() {
        let flow = order_flow();
        let failures = |step: &str| -> Vec<_> {
            let node = flow.nodes().iter().find(|n| n.step == step).unwrap();
            flow.later_failures(node).into_iter().map(|f| f.event.name).collect()
        };
        let cancelled = "order.cancellation_requested";
        assert_eq!(failures("schedule"), [cancelled]);
        assert_eq!(failures("charge"), [cancelled, "shipping.rejected"]);
        assert_eq!(failures("reserve"), [cancelled, "payment.declined", "shipping.rejected"]);
    }
}

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
    /// Everything that can follow from these events, following only these publications.
    pub(super) fn reach(
        &self,
        from: impl IntoIterator<Item = EventKey>,
        follow: impl Fn(&Node, Publication) -> bool,
    ) -> Reach<'_> {
        let mut reach = Reach::default();
        let mut next: Vec<EventKey> = from.into_iter().collect();
        while let Some(event) = next.pop() {
            if !reach.events.insert(event) {
                continue;
            }
            for node in self.consumers(event) {
                if !reach.has(node) {
                    reach.nodes.push(node);
                    next.extend(node.publishes.iter().filter(|p| follow(node, **p)).map(|p| p.event));
                }
            }
        }
        reach
    }

    /// Everything that can follow from the event.
    pub(super) fn after(&self, event: EventKey) -> Reach<'_> {
        self.reach([event], |_, _| true)
    }

    /// Everything that can ever happen.
    pub(super) fn occurring(&self) -> Reach<'_> {
        let requested = self.nodes().iter().flat_map(|n| n.published(How::Request));
        self.reach(requested, |_, _| true)
    }

    /// The actions that a saga started by these events runs when no step refuses.
    pub(super) fn forward(&self, from: impl IntoIterator<Item = EventKey>) -> Vec<&Node> {
        let reach = self.reach(from, is_forward);
        reach.nodes.into_iter().filter(|n| n.kind == NodeKind::Action).collect()
    }

    /// The actions on the way to the pivot, including it. An action that ends the saga counts as a pivot.
    pub(super) fn up_to_the_pivot(&self) -> Vec<&Node> {
        let reach = self.reach(self.starts(), |node, p| is_forward(node, p) && !self.is_final(node));
        reach.nodes.into_iter().filter(|n| n.kind == NodeKind::Action).collect()
    }

    /// The actions after which a saga can still be compensated.
    pub(super) fn before_the_pivot(&self) -> Vec<&Node> {
        self.up_to_the_pivot().into_iter().filter(|n| !self.is_final(n)).collect()
    }

    fn is_final(&self, node: &Node) -> bool {
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
    fn may_refuse_after(&self, from: &Node, step: &Node) -> bool {
        self.in_one_saga(|follow| follow(&|_| true).has(from) && follow(&|node| !same(node, from)).has(step))
    }

    /// Whether this holds for one saga's forward actions, whatever it does at a choice. `holds` is given what a saga reaches
    /// from the successes of some nodes.
    fn in_one_saga<'a>(&'a self, holds: impl Fn(&dyn Fn(&dyn Fn(&Node) -> bool) -> Reach<'a>) -> bool) -> bool {
        self.starts().into_iter().any(|start| {
            let after = |choice: Option<(&Node, &[EventKey])>| {
                holds(&|succeeds| {
                    self.reach([start], |node, p| {
                        let is_chosen = choice.is_none_or(|(at, events)| !same(node, at) || events.contains(&p.event));
                        is_forward(node, p) && is_chosen && succeeds(node)
                    })
                })
            };
            let reached = self.reach([start], is_forward).nodes;
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
                let passed = from.published(How::Deadline).filter(|event| self.compensates_something(*event));
                failures.extend(passed.map(|event| Failure { event, from, how: How::Deadline }));
            }
        }
        for from in self.nodes().iter().filter(|n| n.kind == NodeKind::Request) {
            let asked = from.published(How::Request).filter(|event| self.turns_back(*event, step));
            failures.extend(asked.map(|event| Failure { event, from, how: How::Request }));
        }
        failures.sort_by_key(|f| f.event);
        failures.dedup_by_key(|f| f.event);
        failures
    }

    /// Whether the event leads to any compensation.
    pub(super) fn compensates_something(&self, event: EventKey) -> bool {
        self.after(event).nodes.iter().any(|n| n.kind == NodeKind::Compensation)
    }

    /// Whether the request compensates a saga that runs `step`: it starts no saga, and leads to the compensation of an
    /// action of the same saga.
    fn turns_back(&self, request: EventKey, step: &Node) -> bool {
        let undone = self.after(request);
        let of_the_same_saga = |action: &Node| {
            self.share_a_start(action, step) && self.compensation_of(action).is_some_and(|undo| undone.has(undo))
        };
        !self.starts().contains(&request) && self.forward(self.starts()).into_iter().any(of_the_same_saga)
    }
}

fn is_forward(node: &Node, publication: Publication) -> bool {
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
        assert_eq!(names(flow.forward(flow.starts())), ["charge", "confirm", "register", "reserve", "schedule"]);
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

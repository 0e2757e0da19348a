//! Which events can happen in one saga, and which exclude each other.

use crate::graph::{
    Choreography, EventKey, How, Node, NodeKind, Publication,
    causality::{is_forward, same},
};

/// How a saga comes to publish an event: a request asks for it, or a step ends with these events at once.
#[derive(Clone, Copy)]
struct Origin<'a> {
    how: How,
    outcome: Option<(&'a Node, &'a [EventKey])>,
}

impl Choreography {
    /// Whether steps that are not compensated can publish both in one saga, as successes or refusals of different steps, or
    /// at once. None when this cannot be said: one of them is a compensation's or a deadline's, or never happens.
    pub(super) fn happen_together(&self, one: EventKey, other: EventKey) -> Option<bool> {
        self.together(one, other, |_, _| true)
    }

    /// The same, where two refusals do not count: a saga stops with the first of them.
    pub(super) fn happen_one_after_the_other(&self, one: EventKey, other: EventKey) -> bool {
        self.together(one, other, |a, b| a != How::Refusal || b != How::Refusal) == Some(true)
    }

    fn together(&self, one: EventKey, other: EventKey, counts: impl Fn(How, How) -> bool) -> Option<bool> {
        let (of_one, of_other) = (self.origins(one)?, self.origins(other)?);
        let pairs = of_one.iter().flat_map(|a| of_other.iter().map(move |b| (a, b)));
        let mut possible = pairs.filter(|(a, b)| counts(a.how, b.how)).map(|(a, b)| {
            let ends_once = match (a.outcome, b.outcome) {
                (Some((at, events)), Some((there, others))) => !same(at, there) || events == others,
                _ => true,
            };
            ends_once
                && self.can_end_so(&[a.outcome, b.outcome].into_iter().flatten().collect::<Vec<_>>(), [one, other])
        });
        Some(possible.any(|is_possible| is_possible))
    }

    /// How a saga publishes the event on its way forward. None when it does so in another way too, or not at all.
    fn origins(&self, event: EventKey) -> Option<Vec<Origin<'_>>> {
        let forward = self.reach_forward();
        let mut origins = Vec::new();
        for node in self.nodes() {
            for how in node.publishes.iter().filter(|p| p.event == event).map(|p| p.how) {
                match how {
                    How::Request => origins.push(Origin { how, outcome: None }),
                    How::Success | How::Refusal if forward.has(node) => {
                        let with = node.alternatives(how).filter(|events| events.contains(&event));
                        origins.extend(with.map(|events| Origin { how, outcome: Some((node, events)) }));
                    }
                    How::Success | How::Refusal | How::Compensated | How::Deadline => return None,
                }
            }
        }
        Some(origins).filter(|origins| !origins.is_empty())
    }

    /// Whether there is a saga in which these nodes end with these events, no other step refuses, and both wanted events happen.
    fn can_end_so(&self, ended: &[(&Node, &[EventKey])], wanted: [EventKey; 2]) -> bool {
        self.starts().into_iter().any(|start| {
            let from = || std::iter::once(start).chain(self.joined_requests());
            let follow = |chosen: Option<(&Node, &[EventKey])>, node: &Node, p: Publication| {
                let fixed = ended.iter().copied().chain(chosen).find(|(at, _)| same(at, node));
                match fixed {
                    Some((_, events)) => p.how != How::Deadline && events.contains(&p.event),
                    None => is_forward(node, p),
                }
            };
            let happens = |chosen| {
                let reach = self.reach(from(), |node, p| follow(chosen, node, p));
                wanted.iter().all(|event| reach.events.contains(event))
            };
            let reached = self.reach(from(), |node, p| follow(None, node, p)).nodes;
            let is_open = |node: &&Node| !ended.iter().any(|(at, _)| same(at, node));
            let choices = reached.into_iter().filter(|n| is_open(n) && n.alternatives(How::Success).nth(1).is_some());
            // Each choice by itself: two together may exclude more.
            happens(None)
                && choices.into_iter().all(|at| at.alternatives(How::Success).any(|set| happens(Some((at, set)))))
        })
    }

    /// Whether the compensations of two steps both run in a saga: both follow from one event.
    pub(super) fn are_both_compensated(&self, one: EventKey, other: EventKey) -> bool {
        let undo =
            |event| self.producers(event).filter(|(_, how)| *how == How::Compensated).map(|(node, _)| node).next();
        let (Some(first), Some(second)) = (undo(one), undo(other)) else { return false };
        let causes = self.nodes().iter().filter(|n| n.kind == NodeKind::Compensation).flat_map(|n| &n.triggers);
        let of_compensations = |node: &Node, _| node.kind == NodeKind::Compensation;
        !same(first, second)
            && causes.copied().any(|event| {
                let reach = self.reach([event], of_compensations);
                reach.has(first) && reach.has(second)
            })
    }
}

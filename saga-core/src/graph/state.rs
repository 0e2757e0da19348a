//! The state of a saga, derived from its observed events: its status, the events it expects, and the deadlines that
//! run.

use std::time::Duration;

use crate::graph::{Choreography, Ending, EventKey, How, Node, NodeKind};

/// The status of a saga.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SagaStatus {
    /// No refusal was observed so far.
    Forward,
    /// A refusal or a cancellation was observed: the earlier steps are being compensated.
    Backward,
    /// Ended, and every step succeeded.
    Completed,
    /// Ended, and every step that succeeded was compensated.
    Compensated,
    /// Both a completed and a compensated end were observed, which must never happen.
    Contradictory,
}

/// A node that was started and has not published its result yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected<'a> {
    /// The node.
    pub node: &'a Node,
    /// Its result is one of these sets of events. What was observed of a set is left out.
    pub one_of: Vec<Vec<EventKey>>,
}

/// A running deadline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait<'a> {
    /// The action that started it.
    pub node: &'a Node,
    /// Published when the wait is over.
    pub event: EventKey,
    /// Its declared duration.
    pub after: Duration,
    /// Whether only the end of the saga ends it, and not the participant's next step.
    pub until_end: bool,
}

/// The state of a saga.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SagaState<'a> {
    /// Its status.
    pub status: SagaStatus,
    /// The nodes that were started and have published no result; empty once the saga has ended.
    pub expected: Vec<Expected<'a>>,
    /// The running deadlines.
    pub waits: Vec<Wait<'a>>,
}

impl Choreography {
    /// The state of a saga after the events of these names, in whichever order they were observed. A step that
    /// publishes nothing on success is never expected, since its success cannot be observed, and neither is a step of an
    /// optional participant, since no saga waits for it.
    pub fn state<'a>(&self, seen: impl IntoIterator<Item = &'a str>) -> SagaState<'_> {
        let names: Vec<&str> = seen.into_iter().collect();
        let seen = |event: EventKey| names.contains(&event.name);
        let status = self.status(seen);
        let (mut expected, mut waits) = (Vec::new(), Vec::new());
        if matches!(status, SagaStatus::Forward | SagaStatus::Backward) {
            let started = |node: &&Node| !node.optional && node.triggers.iter().any(|t| seen(*t));
            expected.extend(self.nodes().iter().filter(started).filter_map(|node| self.expected(node, seen)));
            waits.extend(self.nodes().iter().filter(started).flat_map(|node| self.waits(node, seen)));
        }
        SagaState { status, expected, waits }
    }

    fn status(&self, seen: impl Fn(EventKey) -> bool) -> SagaStatus {
        let ended = |ending| self.events().any(|(key, node)| node.end == Some(ending) && seen(key));
        let forward = self.reach(self.entrances(), |node, p| node.kind == NodeKind::Action && p.how == How::Success);
        // What an optional participant publishes says nothing of the saga.
        let is_aside = |event| self.producers(event).count() > 0 && self.producers(event).all(|(n, _)| n.optional);
        let turns = |event| !forward.events.contains(&event) && !is_aside(event);
        match (ended(Ending::Completed), ended(Ending::Compensated)) {
            (true, true) => SagaStatus::Contradictory,
            (true, false) => SagaStatus::Completed,
            (false, true) => SagaStatus::Compensated,
            (false, false) if self.events().any(|(key, _)| seen(key) && turns(key)) => SagaStatus::Backward,
            (false, false) => SagaStatus::Forward,
        }
    }

    fn expected<'a>(&self, node: &'a Node, seen: impl Fn(EventKey) -> bool) -> Option<Expected<'a>> {
        let left = |events: &[EventKey]| events.iter().copied().filter(|e| !seen(*e)).collect::<Vec<_>>();
        let is_begun = |events: &[EventKey]| events.iter().any(|e| seen(*e));
        // When a part of a set was observed, the rest of it is expected.
        let begun = node.outcomes.iter().any(|outcome| is_begun(&outcome.events));
        let possible = node.outcomes.iter().filter(|outcome| !begun || is_begun(&outcome.events));
        let mut one_of: Vec<Vec<EventKey>> = Vec::new();
        for events in possible.map(|outcome| left(&outcome.events)) {
            if !one_of.contains(&events) {
                one_of.push(events);
            }
        }
        let undone = self.compensation_of(node).filter(|_| node.kind == NodeKind::Action);
        // After the compensation, the barrier rejects the action, whether it had run or not.
        let closed = undone.is_some_and(|undo| undo.publishes.iter().any(|p| seen(p.event)));
        let waits = !one_of.is_empty() && one_of.iter().all(|events| !events.is_empty()) && !closed;
        waits.then_some(Expected { node, one_of })
    }

    /// Whether the action has ended, as far as events show it. One that runs in rounds goes on until its event is seen.
    fn has_ended(&self, node: &Node, seen: impl Fn(EventKey) -> bool) -> bool {
        let mut results = node.publishes.iter().filter(|p| p.how != How::Deadline).map(|p| p.event).peekable();
        let in_rounds = self.spec(node).is_some_and(|spec| spec.rounds.is_some()) && results.peek().is_some();
        if in_rounds { results.any(seen) } else { node.triggers.iter().any(|t| seen(*t)) }
    }

    /// The deadlines of an action that still run.
    fn waits<'a>(&self, node: &'a Node, seen: impl Fn(EventKey) -> bool) -> Vec<Wait<'a>> {
        let Some(spec) = self.spec(node).filter(|_| node.kind == NodeKind::Action) else { return Vec::new() };
        let later = |n: &&Node| n.owner == node.owner && n.kind == NodeKind::Action && n.spec != node.spec;
        let goes_on = || self.nodes().iter().filter(later).any(|n| self.has_ended(n, &seen));
        let compensated =
            || self.compensation_of(node).is_some_and(|undo| undo.publishes.iter().any(|p| seen(p.event)));
        let mut waits = Vec::new();
        for (deadline, until_end) in [(&spec.deadline, false), (&spec.saga_deadline, true)] {
            let Some(deadline) = deadline else { continue };
            let event = EventKey::from(deadline.event);
            let over = if until_end { compensated() } else { goes_on() };
            if !over && !seen(event) {
                waits.push(Wait { node, event, after: deadline.after, until_end });
            }
        }
        waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::fixture::{inventory, order, order_flow, payment, shipping};

    fn expected(seen: &[&str]) -> Vec<(&'static str, Vec<&'static str>)> {
        let flow = order_flow();
        let state = flow.state(seen.iter().copied());
        state.expected.iter().map(|e| (e.node.name, e.one_of.iter().flatten().map(|k| k.name).collect())).collect()
    }

    #[test]
    fn a_saga_waits_for_the_step_that_was_started_last() {
        assert_eq!(expected(&["order.created"]), [("reserve", vec!["inventory.reserved", "inventory.rejected"])]);
        let charged = ["order.created", "inventory.reserved", "payment.charged"];
        assert_eq!(expected(&charged), [("schedule", vec!["shipping.scheduled", "shipping.rejected"])]);
    }

    #[test]
    fn a_refusal_starts_compensation() {
        let flow = order_flow();
        let seen = ["order.created", "inventory.reserved", "payment.declined"];
        assert_eq!(flow.state(seen).status, SagaStatus::Backward);
        assert_eq!(expected(&seen), [("release", vec!["inventory.released"])]);
    }

    #[test]
    fn nothing_is_expected_of_a_saga_that_has_ended() {
        let flow = order_flow();
        let state = flow.state(["order.created", "inventory.rejected", "order.cancelled"]);
        assert_eq!(state, SagaState { status: SagaStatus::Compensated, expected: vec![], waits: vec![] });
        let both = flow.state(["order.confirmed", "order.cancelled"]);
        assert_eq!(both.status, SagaStatus::Contradictory);
    }

    #[test]
    fn a_deadline_runs_until_its_participant_goes_on() {
        let flow = order_flow();
        let waits = |seen: &[&str]| -> Vec<_> {
            flow.state(seen.iter().copied()).waits.iter().map(|w| (w.node.name, w.event.name)).collect()
        };
        assert_eq!(waits(&["order.created"]), [("register", "order.cancellation_requested")]);
        assert!(waits(&["order.created", "shipping.scheduled"]).is_empty());
        assert!(waits(&["order.created", "order.cancellation_requested"]).is_empty());
    }

    #[test]
    fn a_deadline_limits_the_rounds_of_a_later_step() {
        let mut order = order();
        order.steps[1].rounds = Some(5);
        let flow = Choreography::of(vec![order, inventory(), payment(), shipping()]);
        let waits = |seen: &[&str]| flow.state(seen.iter().copied()).waits.len();
        assert_eq!(waits(&["order.created", "shipping.scheduled"]), 1, "it may be in its first round");
        assert_eq!(waits(&["order.created", "shipping.scheduled", "order.confirmed"]), 0);
    }

    #[test]
    fn a_deadline_until_the_end_runs_until_the_end() {
        let mut order = order();
        order.steps[0].saga_deadline = order.steps[0].deadline.take();
        let flow = Choreography::of(vec![order, inventory(), payment(), shipping()]);
        let waits = |seen: &[&str]| -> Vec<_> {
            flow.state(seen.iter().copied()).waits.iter().map(|w| (w.node.name, w.until_end)).collect()
        };
        assert_eq!(waits(&["order.created", "shipping.scheduled"]), [("register", true)]);
        assert!(waits(&["order.created", "order.cancellation_requested"]).is_empty());
        assert!(waits(&["order.created", "order.confirmed"]).is_empty());
    }
}

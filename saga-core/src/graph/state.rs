//! The state of a saga, derived from its observed events: its status, the events it expects, and the deadlines that
//! run.

use std::time::Duration;

use crate::{
    graph::{Choreography, Ending, EventKey, How, Node, NodeKind},
    store::TimerKind,
};

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
    /// Ended as compensated, but a compensation at best effort failed for good: what its step did is still in place.
    PartlyCompensated,
    /// Both a completed and a compensated end were observed, which must never happen.
    Contradictory,
}

/// An event of a saga that was observed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observed<'a> {
    /// The event's name.
    pub name: &'a str,
    /// See [`Envelope::partly_compensated`](crate::envelope::Envelope::partly_compensated).
    pub partly_compensated: bool,
}

impl<'a> From<&'a str> for Observed<'a> {
    fn from(name: &'a str) -> Self {
        Self { name, partly_compensated: false }
    }
}

/// A node that was started and has not published its result yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected<'a> {
    /// The node.
    pub node: &'a Node,
    /// Its result is one of these sets of events. What was observed of a set is left out.
    pub one_of: Vec<Vec<EventKey>>,
}

/// A join some of whose parts have arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joining<'a> {
    /// The node.
    pub node: &'a Node,
    /// The parts that have not arrived, each with its alternatives.
    pub missing: Vec<&'a [EventKey]>,
}

/// A running deadline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait<'a> {
    /// The action that started it; a join's own deadline is started by its first arrival.
    pub node: &'a Node,
    /// Published when the wait is over.
    pub event: EventKey,
    /// Its declared duration.
    pub after: Duration,
    /// What ends it: the participant's next step, the other arrivals of a join, or the end of the saga.
    pub kind: TimerKind,
}

/// The state of a saga.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SagaState<'a> {
    /// Its status.
    pub status: SagaStatus,
    /// The nodes that were started and have published no result; empty once the saga has ended.
    pub expected: Vec<Expected<'a>>,
    /// The joins that wait for other parts; empty once the saga has ended, which closes them.
    pub joining: Vec<Joining<'a>>,
    /// The running deadlines.
    pub waits: Vec<Wait<'a>>,
}

impl Choreography {
    /// The state of a saga after these events, in whichever order they were observed; names are events without a mark. A step that
    /// publishes nothing on success is never expected, since its success cannot be observed, and neither is a step of an
    /// optional participant, since no saga waits for it.
    pub fn state<'a, E: Into<Observed<'a>>>(&self, seen: impl IntoIterator<Item = E>) -> SagaState<'_> {
        let observed: Vec<Observed<'a>> = seen.into_iter().map(Into::into).collect();
        let seen = |event: EventKey| observed.iter().any(|observed| observed.name == event.name);
        let status = match self.status(seen) {
            // Also when another event of the saga ended it than those that follow from what failed.
            SagaStatus::Compensated if observed.iter().any(|observed| observed.partly_compensated) => {
                SagaStatus::PartlyCompensated
            }
            status => status,
        };
        let mut state = SagaState { status, expected: Vec::new(), joining: Vec::new(), waits: Vec::new() };
        if matches!(status, SagaStatus::Forward | SagaStatus::Backward) {
            for node in self.nodes().iter().filter(|node| !node.optional) {
                let missing: Vec<_> = node.triggers.parts().filter(|part| !part.iter().any(|t| seen(*t))).collect();
                if missing.is_empty() && !node.triggers.is_empty() {
                    state.expected.extend(self.expected(node, seen));
                } else {
                    state.joining.extend(self.joining(node, missing, seen));
                }
                state.waits.extend(self.waits(node, seen));
            }
        }
        state
    }

    fn status(&self, seen: impl Fn(EventKey) -> bool) -> SagaStatus {
        let ended = |ending| self.events().any(|(key, node)| node.end == Some(ending) && seen(key));
        let from = self.entrances().into_iter().chain(self.joined_requests());
        let forward = self.reach(from, |node, p| node.kind == NodeKind::Action && p.how == How::Success);
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
        let waits = !one_of.is_empty() && one_of.iter().all(|events| !events.is_empty()) && !self.is_closed(node, seen);
        waits.then_some(Expected { node, one_of })
    }

    /// Whether the action has ended, as far as events show it. One that runs in rounds goes on until its event is seen.
    fn has_ended(&self, node: &Node, seen: impl Fn(EventKey) -> bool) -> bool {
        let mut results = node.publishes.iter().filter(|p| p.how != How::Deadline).map(|p| p.event).peekable();
        let in_rounds = self.spec(node).is_some_and(|spec| spec.rounds.is_some()) && results.peek().is_some();
        if in_rounds { results.any(seen) } else { has_started(node, seen) }
    }

    /// Whether an action can no longer run, or not again: after its compensation the barrier rejects it, whether it had run or
    /// not, and a join is closed by its own deadline.
    fn is_closed(&self, node: &Node, seen: impl Fn(EventKey) -> bool) -> bool {
        let undone = self.compensation_of(node).filter(|_| node.kind == NodeKind::Action);
        undone.is_some_and(|undo| undo.publishes.iter().any(|p| seen(p.event)))
            || self.arrivals_deadline(node).is_some_and(&seen)
    }

    /// The join that waits for these parts, unless it is closed, has run, or waits for what will not happen any more: the
    /// step that would publish it has ended with something else.
    fn joining<'a>(
        &self,
        node: &'a Node,
        missing: Vec<&'a [EventKey]>,
        seen: impl Fn(EventKey) -> bool,
    ) -> Option<Joining<'a>> {
        let some = node.triggers.iter().any(|event| seen(*event));
        let has_run = node.outcomes.iter().flat_map(|outcome| &outcome.events).any(|event| seen(*event));
        let is_excluded = |event: &EventKey| {
            let instead = |n: &Node| n.publishes.iter().any(|p| seen(p.event) && n.excludes(p.event, *event));
            let mut producers = self.producers(*event).peekable();
            producers.peek().is_some() && producers.all(|(n, _)| instead(n))
        };
        let never = missing.iter().any(|part| part.iter().all(is_excluded));
        (some && !has_run && !never && !self.is_closed(node, &seen)).then_some(Joining { node, missing })
    }

    /// The deadlines of an action that still run.
    fn waits<'a>(&self, node: &'a Node, seen: impl Fn(EventKey) -> bool) -> Vec<Wait<'a>> {
        let Some(spec) = self.spec(node).filter(|_| node.kind == NodeKind::Action) else { return Vec::new() };
        let is_arriving = node.triggers.is_join() && node.triggers.iter().any(|t| seen(*t));
        let later = |n: &&Node| n.owner == node.owner && n.kind == NodeKind::Action && n.spec != node.spec;
        let goes_on = || self.nodes().iter().filter(later).any(|n| self.has_ended(n, &seen));
        let compensated =
            || self.compensation_of(node).is_some_and(|undo| undo.publishes.iter().any(|p| seen(p.event)));
        let has_run = || node.outcomes.iter().flat_map(|outcome| &outcome.events).any(|event| seen(*event));
        let mut waits = Vec::new();
        for (kind, deadline) in spec.deadlines() {
            let event = EventKey::from(deadline.event);
            let runs = match kind {
                TimerKind::Step => has_started(node, &seen) && !goes_on(),
                TimerKind::Saga => has_started(node, &seen) && !compensated(),
                TimerKind::Arrivals => is_arriving && !has_run() && !compensated(),
            };
            if runs && !node.triggers.is_empty() && !seen(event) {
                waits.push(Wait { node, event, after: deadline.after, kind });
            }
        }
        waits
    }
}

/// Whether all that starts the node was observed: one arrival of a join is no step.
fn has_started(node: &Node, seen: impl Fn(EventKey) -> bool) -> bool {
    node.triggers.parts().all(|part| part.iter().any(|t| seen(*t)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::fixture::{inventory, order, order_flow, payment, shipping, travel::travel_flow};

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
        assert_eq!(
            state,
            SagaState { status: SagaStatus::Compensated, expected: vec![], joining: vec![], waits: vec![] }
        );
        let both = flow.state(["order.confirmed", "order.cancelled"]);
        assert_eq!(both.status, SagaStatus::Contradictory);
    }

    #[test]
    fn a_saga_with_a_failed_compensation_is_never_called_compensated() {
        let flow = order_flow();
        let marked = |name| Observed { name, partly_compensated: true };
        let released =
            ["order.created", "payment.declined"].map(Observed::from).into_iter().chain([marked("inventory.released")]);
        assert_eq!(flow.state(released.clone()).status, SagaStatus::Backward, "it goes on");
        for end in [marked("order.cancelled"), "order.cancelled".into()] {
            assert_eq!(flow.state(released.clone().chain([end])).status, SagaStatus::PartlyCompensated);
        }
        let both = released.chain(["order.cancelled", "order.confirmed"].map(Observed::from));
        assert_eq!(flow.state(both).status, SagaStatus::Contradictory);
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
            flow.state(seen.iter().copied()).waits.iter().map(|w| (w.node.name, w.kind)).collect()
        };
        assert_eq!(waits(&["order.created", "shipping.scheduled"]), [("register", TimerKind::Saga)]);
        assert!(waits(&["order.created", "order.cancellation_requested"]).is_empty());
        assert!(waits(&["order.created", "order.confirmed"]).is_empty());
    }

    /// What joins wait for after these events of a trip.
    fn joining(seen: &[&'static str]) -> Vec<(&'static str, Vec<Vec<&'static str>>)> {
        let flow = travel_flow();
        let state = flow.state(seen.iter().copied());
        let missing = |j: &Joining<'_>| j.missing.iter().map(|part| part.iter().map(|e| e.name).collect()).collect();
        state.joining.iter().map(|j| (j.node.name, missing(j))).collect()
    }

    /// The names of the steps that are expected, and the deadlines that run.
    fn others(seen: &[&'static str]) -> (Vec<&'static str>, Vec<(&'static str, TimerKind)>) {
        let flow = travel_flow();
        let state = flow.state(seen.iter().copied());
        let waits = state.waits.iter().map(|w| (w.event.name, w.kind)).collect();
        (state.expected.iter().map(|e| e.node.name).collect(), waits)
    }

    const TRIP: (&str, TimerKind) = ("trip.cancellation_requested", TimerKind::Saga);
    const PAYMENT: (&str, TimerKind) = ("payment.expired", TimerKind::Arrivals);

    #[test]
    fn a_join_waits_for_its_missing_parts_in_any_order_and_is_expected_when_all_have_arrived() {
        let parts = ["flight.reserved", "hotel.reserved", "car.reserved"];
        for [first, second, third] in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let missing = |gone: &[usize]| -> Vec<Vec<&str>> {
                parts.iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, part)| vec![*part]).collect()
            };
            assert_eq!(joining(&["trip.requested"]), []);
            assert_eq!(others(&["trip.requested"]).1, [TRIP]);
            let seen = ["trip.requested", parts[first]];
            assert_eq!(joining(&seen), [("charge", missing(&[first]))]);
            assert_eq!(others(&seen), (vec!["reserve", "reserve"], vec![TRIP, PAYMENT]), "an arrival is no step");
            let seen = ["trip.requested", parts[first], parts[second]];
            assert_eq!(joining(&seen), [("charge", missing(&[first, second]))]);
            assert_eq!(others(&seen), (vec!["reserve"], vec![TRIP, PAYMENT]));
            let seen = ["trip.requested", parts[first], parts[second], parts[third]];
            assert_eq!(joining(&seen), []);
            assert_eq!(others(&seen), (vec!["charge"], vec![TRIP, PAYMENT]));
        }
        let charged = [&["trip.requested"], &parts[..], &["payment.charged"]].concat();
        assert_eq!((joining(&charged), others(&charged)), (vec![], (vec!["confirm"], vec![TRIP])));
    }

    #[test]
    fn alternatives_of_a_part_are_named_and_one_of_them_suffices() {
        let seen = ["trip.requested", "flight.rejected", "payment.refunded", "car.released"];
        assert_eq!(joining(&seen), [("cancel", vec![vec!["hotel.rejected", "hotel.released"]])]);
        // The flight publishes its null compensation too, which changes nothing.
        assert_eq!(joining(&[&seen[..], &["flight.released"]].concat()), joining(&seen));
        let both = [&seen[..], &["hotel.rejected"]].concat();
        assert_eq!((joining(&both), others(&both).0.contains(&"cancel")), (vec![], true));
    }

    #[test]
    fn a_join_that_is_closed_waits_for_nothing() {
        let waiting = ["trip.requested", "flight.reserved"];
        assert_eq!(joining(&waiting).len(), 1);
        for closing in ["payment.refunded", "payment.expired", "trip.confirmed", "trip.cancelled"] {
            let seen = [&waiting[..], &[closing]].concat();
            assert_eq!(joining(&seen), [], "{closing}");
            assert!(!others(&seen).1.contains(&PAYMENT), "{closing}");
            assert!(
                !others(&[&seen[..], &["hotel.reserved", "car.reserved"]].concat()).0.contains(&"charge"),
                "{closing}"
            );
        }
    }

    #[test]
    fn a_join_does_not_wait_for_what_a_refusal_has_excluded() {
        let seen = ["trip.requested", "flight.reserved", "hotel.rejected"];
        let cancel: Vec<_> = joining(&seen).into_iter().map(|(name, _)| name).collect();
        assert_eq!(cancel, ["cancel"], "the charge is closed by its compensation, which is expected");
        assert!(others(&seen).0.contains(&"refund"));
        // A cancellation does not exclude what is in flight.
        let cancelled = ["trip.requested", "flight.reserved", "trip.cancellation_requested"];
        assert_eq!(joining(&cancelled), [("charge", vec![vec!["hotel.reserved"], vec!["car.reserved"]])]);
    }
}

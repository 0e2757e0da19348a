//! Rules about steps with several triggers: a join can complete, and what starts with any of several events starts with the only
//! one that happens.

use std::{collections::BTreeSet, fmt};

use crate::graph::{
    Choreography, Ending, EventKey, How, Node, NodeKind,
    causality::{is_forward, same},
    check::{Finding, Rule, list},
};

/// `hotel.released/1 or hotel.rejected/1`.
pub(super) fn any_of(events: impl IntoIterator<Item = impl fmt::Display>) -> String {
    events.into_iter().map(|event| event.to_string()).collect::<Vec<_>>().join(" or ")
}

/// The parts of a join: `flight.reserved/1, hotel.reserved/1 and car.reserved/1`.
pub(super) fn all_of(node: &Node) -> String {
    list(node.triggers.parts().map(any_of))
}

fn joins(flow: &Choreography) -> impl Iterator<Item = &Node> {
    flow.nodes().iter().filter(|node| node.triggers.is_join())
}

pub(super) fn join_parts_are_distinct(flow: &Choreography) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in joins(flow) {
        for event in in_two_parts(node) {
            let message = format!(
                "{} waits for {} twice, but one arrival is of one part: remove it from all parts but one",
                node.name, event.name,
            );
            findings.push(Finding::at(Rule::JoinPartsAreDistinct, node, message).about(event));
        }
    }
    findings
}

/// The events that are in an earlier part of the join too. Compared by name, as an arrival finds its part.
fn in_two_parts(node: &Node) -> Vec<EventKey> {
    let (mut seen, mut twice) = (BTreeSet::new(), Vec::new());
    for part in node.triggers.parts() {
        twice.extend(part.iter().filter(|event| seen.contains(event.name)));
        seen.extend(part.iter().map(|event| event.name));
    }
    twice
}

pub(super) fn joins_can_complete(flow: &Choreography) -> Vec<Finding> {
    joins(flow).filter_map(|node| incomplete(flow, node)).collect()
}

/// Whether some parts of the join never arrive in one saga. That is a finding of its own.
pub(super) fn never_completes(flow: &Choreography, node: &Node) -> bool {
    node.triggers.is_join() && incomplete(flow, node).is_some()
}

fn incomplete(flow: &Choreography, node: &Node) -> Option<Finding> {
    let finding = |message| Finding::at(Rule::JoinsCanComplete, node, message);
    let parts: Vec<&[EventKey]> = node.triggers.parts().collect();
    for (place, one) in parts.iter().enumerate() {
        for other in &parts[..place] {
            let mut pairs = other.iter().flat_map(|a| one.iter().map(move |b| (*a, *b)));
            if pairs.all(|(a, b)| a != b && flow.happen_together(a, b) == Some(false)) {
                return Some(finding(format!(
                    "{} waits for {} and for {}, which never happen in one saga: make them alternatives of one part, an enum with \
                     #[derive(Trigger)]",
                    node.name,
                    any_of(*other),
                    any_of(*one),
                )));
            }
        }
    }
    let ends = flow.declarations()[node.owner].ends.iter().map(|end| EventKey::from(end.event));
    if let Some(end) = ends.into_iter().find(|end| node.kind == NodeKind::Action && flow.after(*end).has(node)) {
        return Some(finding(format!(
            "{} waits for what follows from {end}, with which the saga has ended for its participant: what arrives then is late; \
             end the saga with a later event, or let another participant wait",
            node.name,
        )));
    }
    if let Some(end) = ends_beside(flow, node) {
        return Some(finding(format!(
            "{} may still wait for {} when {end} ends the saga for its participant, which closes it: let {end} follow from {}, or \
             let another participant wait",
            node.name,
            all_of(node),
            node.name,
        )));
    }
    let (choice, missing) = left_waiting(flow, node)?;
    Some(finding(format!(
        "{} waits for {}, which does not happen when {} ends with {}: add what happens then to that part, an enum with \
         #[derive(Trigger)]",
        node.name,
        any_of(missing),
        choice.0.name,
        list(choice.1),
    )))
}

/// An event with which the saga completes for the participant of the join, in a saga in which parts of the join arrive as well, and
/// which does not follow from the join.
fn ends_beside(flow: &Choreography, join: &Node) -> Option<EventKey> {
    if join.kind != NodeKind::Action || !flow.reach_forward().has(join) {
        return None;
    }
    let completed = flow.declarations()[join.owner].ends.iter().filter(|end| end.ending == Ending::Completed);
    // The ways to publish the part, and what happens then without the join.
    let happens = |end: EventKey, part: EventKey| {
        let makers = flow.reach_forward().nodes.into_iter().filter(|at| !same(at, join));
        makers.flat_map(|at| at.alternatives(How::Success).map(move |set| (at, set))).any(|(at, set)| {
            let from = flow.starts().into_iter().chain(flow.joined_requests());
            let chosen = |n: &Node, event: EventKey| !same(n, at) || set.contains(&event);
            set.contains(&part)
                && flow
                    .reach(from, |n, p| is_forward(n, p) && !same(n, join) && chosen(n, p.event))
                    .events
                    .is_superset(&BTreeSet::from([end, part]))
        })
    };
    let is_beside = |end: &EventKey| {
        join.triggers.iter().any(|part| flow.happen_together(*end, *part) == Some(true) && happens(*end, *part))
    };
    completed.map(|end| EventKey::from(end.event)).find(is_beside)
}

/// A node, and events of it or for it.
type NodeEvents<'a> = (&'a Node, &'a [EventKey]);

/// A choice after which some parts of the join arrive and others do not, and the first of these.
fn left_waiting<'a>(flow: &'a Choreography, node: &'a Node) -> Option<(NodeEvents<'a>, &'a [EventKey])> {
    let forward = flow.reach_forward();
    if !forward.has(node) {
        return None;
    }
    let choices = forward.nodes.iter().copied().filter(|at| at.alternatives(How::Success).nth(1).is_some());
    let alternatives = choices.flat_map(|at| at.alternatives(How::Success).map(move |events| (at, events)));
    alternatives.into_iter().find_map(|(at, events)| {
        let from = flow.starts().into_iter().chain(flow.joined_requests());
        let chosen = |n: &Node, event: EventKey| !same(n, at) || events.contains(&event);
        let reach = flow.reach(from, |n, p| is_forward(n, p) && chosen(n, p.event));
        // The end of the saga closes a join.
        let is_over = events.iter().any(|event| flow.end(*event).is_some());
        let arrives = |part: &&[EventKey]| part.iter().any(|event| reach.events.contains(event));
        // What comes from outside answers the other parts: without them nobody sends it.
        let is_asked = |part: &&[EventKey]| part.iter().all(|event| flow.joined_requests().contains(event));
        let some = reach.has(at) && !is_over && node.triggers.parts().any(|part| arrives(&part) && !is_asked(&part));
        let missing = node.triggers.parts().find(|part| !arrives(part)).filter(|_| some)?;
        Some(((at, events), missing))
    })
}

pub(super) fn alternatives_are_exclusive(flow: &Choreography) -> Vec<Finding> {
    let mut findings = Vec::new();
    // A compensation is meant to start with the first of several failures. One event in two parts is a finding of its own.
    let is_judged = |n: &&Node| n.kind == NodeKind::Action && in_two_parts(n).is_empty();
    for node in flow.nodes().iter().filter(is_judged) {
        let of_its_own = |event: EventKey| {
            let published = node.publishes.iter().filter(|p| p.how != How::Deadline).map(|p| p.event);
            flow.reach_by_one_part(published, |n, _| n.kind == NodeKind::Action).events.contains(&event)
        };
        let pairs = node.triggers.parts().flat_map(|part| {
            part.iter().enumerate().flat_map(move |(place, other)| part[..place].iter().map(move |one| (*one, *other)))
        });
        let both = |(one, other): &(EventKey, EventKey)| {
            let happen = flow.happen_one_after_the_other(*one, *other) || flow.are_both_compensated(*one, *other);
            // What follows from the step itself is a cycle, which is a finding of its own.
            one.name != other.name && happen && !of_its_own(*one) && !of_its_own(*other)
        };
        if let Some((one, other)) = pairs.into_iter().find(both) {
            let message = format!(
                "{} runs after the first of {one} and {other}, which both happen in one saga, and ignores the second: wait for \
                 both with a tuple, or remove one of them",
                node.name,
            );
            findings.push(Finding::at(Rule::AlternativesAreExclusive, node, message).about(other));
        }
    }
    findings
}

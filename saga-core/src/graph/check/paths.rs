//! Rules about termination: every wait has a limit, and every path leads to an end.

use std::collections::BTreeSet;

use crate::graph::{
    Choreography, Ending, EventKey, How, Node, NodeKind,
    causality::same,
    check::{Finding, Rule, list},
};

pub(super) fn waits_have_deadlines(flow: &Choreography) -> Vec<Finding> {
    let forward = flow.forward(flow.starts());
    let has_deadline = |node: &Node| {
        let of_saga = |n: &&Node| flow.spec(n).is_some_and(|spec| spec.saga_deadline.is_some());
        flow.spec(node).is_some_and(|spec| spec.deadline.is_some())
            || actions(flow).filter(of_saga).any(|n| n.owner == node.owner && runs_too(flow, n, node))
    };
    let mut findings = Vec::new();
    // In the order of the declarations.
    for node in flow.nodes().iter().filter(|node| forward.iter().any(|n| same(n, node))) {
        if has_deadline(node) || flow.ends_the_saga(node) {
            continue;
        }
        let waits_for: Vec<_> = forward.iter().filter(|other| waits(flow, node, other)).collect();
        if waits_for.is_empty() {
            continue;
        }
        let events: BTreeSet<_> = waits_for.iter().flat_map(|other| &other.triggers).collect();
        let message = format!(
            "after {} the participant waits for {} and would wait for ever: add .deadline(..) to {}",
            node.name,
            list(events),
            node.name,
        );
        findings.push(Finding::at(Rule::WaitsHaveDeadlines, node, message));
    }
    findings
}

/// Whether `step` runs in every saga in which `other` runs, before or after it.
fn runs_too(flow: &Choreography, step: &Node, other: &Node) -> bool {
    let starts = flow.starts().into_iter().filter(|event| !step.consumes(*event));
    let without =
        flow.reach(starts, |n, p| n.kind == NodeKind::Action && p.how == How::Success && !step.consumes(p.event));
    !without.has(other)
}

pub(super) fn saga_deadlines_end(flow: &Choreography) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in actions(flow).filter(|n| flow.spec(n).is_some_and(|spec| spec.saga_deadline.is_some())) {
        let ends = flow.declarations().get(node.owner).is_some_and(|declaration| !declaration.ends.is_empty());
        if !ends {
            let message = format!(
                "{} waits for the end of the saga, and the participant declares no end that would disarm it: declare one \
                 with .completes_with() or .compensates_with(), or use .deadline(..)",
                node.name,
            );
            findings.push(Finding::at(Rule::SagaDeadlinesEnd, node, message));
        }
    }
    findings
}

/// Whether `node` leaves its participant waiting for the trigger of `later`: the trigger follows from that of `node`,
/// or both follow from the same start and come in any order.
fn waits(flow: &Choreography, node: &Node, later: &Node) -> bool {
    let shares_trigger = node.triggers.iter().any(|t| later.consumes(*t));
    if node.owner != later.owner || same(node, later) || shares_trigger {
        return false;
    }
    let follows = |a: &Node, b: &Node| flow.forward(a.triggers.iter().copied()).iter().any(|n| same(n, b));
    match (follows(node, later), follows(later, node)) {
        (after, before) if after != before => after,
        // A cycle, which is a finding of its own.
        (true, _) => false,
        (false, _) => flow.share_a_start(node, later),
    }
}

pub(super) fn steps_do_not_cycle(flow: &Choreography) -> Vec<Finding> {
    let mut known: Vec<&Node> = Vec::new();
    let mut findings: Vec<Finding> = own_compensations(flow).collect();
    for node in actions(flow) {
        if known.iter().any(|n| same(n, node)) || !in_a_cycle(flow, node) {
            continue;
        }
        let members: Vec<_> = actions(flow).filter(|n| leads_to(flow, node, n) && leads_to(flow, n, node)).collect();
        let names = members.iter().map(|n| format!("{}: {}", n.participant, n.name));
        let closing = node.triggers.iter().copied().find(|t| steps_after(flow, node).1.contains(t));
        let message = format!(
            "{} follow from each other, but a step runs once in a saga, so the second round would stop silently: give \
             {} a trigger that does not follow from it",
            list(names),
            node.name,
        );
        let finding = Finding::at(Rule::StepsDoNotCycle, node, message);
        findings.push(closing.into_iter().fold(finding, Finding::about));
        known.extend(members);
    }
    findings
}

/// Compensations that are handed the event which they publish, where nothing says what that event is made from.
fn own_compensations(flow: &Choreography) -> impl Iterator<Item = Finding> {
    let compensations = flow.nodes().iter().filter(|n| n.kind == NodeKind::Compensation);
    compensations.flat_map(|node| {
        let own = node.publishes.iter().map(|p| p.event).filter(|event| node.consumes(*event));
        own.map(|event| {
            let message = format!(
                "{} is started by {event}, which it publishes itself: say which events start it, .on::<(..)>()",
                node.name,
            );
            Finding::at(Rule::StepsDoNotCycle, node, message).about(event)
        })
    })
}

fn actions(flow: &Choreography) -> impl Iterator<Item = &Node> {
    flow.nodes().iter().filter(|n| n.kind == NodeKind::Action)
}

/// The actions and events that follow from the publications of an action, through actions only.
fn steps_after<'a>(flow: &'a Choreography, node: &Node) -> (Vec<&'a Node>, BTreeSet<EventKey>) {
    let of_step = |how: How| matches!(how, How::Success | How::Refusal);
    let published = node.publishes.iter().filter(|p| of_step(p.how)).map(|p| p.event);
    let reach = flow.reach(published, |n, p| n.kind == NodeKind::Action && of_step(p.how));
    (reach.nodes.into_iter().filter(|n| n.kind == NodeKind::Action).collect(), reach.events)
}

fn leads_to(flow: &Choreography, from: &Node, to: &Node) -> bool {
    steps_after(flow, from).0.iter().any(|n| same(n, to))
}

fn in_a_cycle(flow: &Choreography, node: &Node) -> bool {
    leads_to(flow, node, node)
}

pub(super) fn paths_end(flow: &Choreography) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut explained = BTreeSet::new();
    let ends_in = |event, wanted: Option<Ending>| {
        let ends = flow.after(event).events.into_iter().filter_map(|e| flow.end(e)).collect::<Vec<_>>();
        wanted.map_or(!ends.is_empty(), |wanted| ends.contains(&wanted))
    };
    // A dropped event, an unanswered refusal or a cycle on the way is a finding of its own.
    let is_refusal = |event| flow.producers(event).any(|(_, how)| how == How::Refusal);
    let is_explained = |event, explained: &BTreeSet<EventKey>| {
        let after = flow.after(event);
        let is_found = |e: &EventKey| flow.is_dropped(*e) || flow.is_unanswered(*e) && is_refusal(*e);
        after.events.iter().any(|e| is_found(e) || explained.contains(e))
            || after.nodes.iter().any(|n| n.kind == NodeKind::Action && in_a_cycle(flow, n))
    };

    let occurring = flow.occurring().events;
    for event in occurring.iter().copied().filter(|e| !ends_in(*e, None) && !is_beside(flow, *e)) {
        // Reports only the last event before the path breaks off, or the first of several in a cycle.
        let is_last = flow.after(event).events.iter().all(|next| flow.after(*next).events.contains(&event));
        if is_last && !is_explained(event, &explained) {
            explained.insert(event);
            let consumers = list(flow.consumers(event).map(|n| format!("{}: {}", n.participant, n.name)));
            let consumers =
                if consumers.is_empty() { "no participant but an optional one".to_owned() } else { consumers };
            let message = format!(
                "no end follows from {event}, which {consumers} consumes: publish what happens next, or declare the last \
                 event with .completes_with() or .compensates_with()",
            );
            findings.push(of_producer(flow, event, message));
        }
    }
    for event in
        occurring.iter().copied().filter(|e| is_compensated(flow, *e) && !ends_in(*e, Some(Ending::Compensated)))
    {
        if !is_explained(event, &explained) && ends_in(event, None) {
            explained.insert(event);
            let message = format!(
                "{event} compensates a step, but no compensated end follows: declare one with .compensates_with()"
            );
            findings.push(of_producer(flow, event, message));
        }
    }
    for start in flow.starts() {
        let reach = flow.reach([start], |node, p| node.kind == NodeKind::Action && p.how == How::Success);
        let completes = reach.events.iter().any(|e| flow.end(*e) == Some(Ending::Completed));
        if !completes && !is_explained(start, &explained) {
            let message =
                format!("no success completes a saga that {start} starts: declare one with .completes_with()");
            findings.push(of_producer(flow, start, message));
        }
    }
    findings
}

/// Whether no saga goes on with the event and none has to: only optional participants consume it, and whenever it is published,
/// the saga goes on with an event that is published at the same time. A request that only they consume starts no saga.
pub(super) fn is_beside(flow: &Choreography, event: EventKey) -> bool {
    let goes_on = |events: &[EventKey]| events.iter().any(|other| !flow.is_unanswered(*other));
    let outcomes = flow.nodes().iter().flat_map(|node| &node.outcomes);
    let mut of_event = outcomes.filter(|outcome| outcome.events.contains(&event));
    let is_of_deadline = flow.producers(event).any(|(node, _)| node.published(How::Deadline).any(|e| e == event));
    flow.is_unanswered(event)
        && flow.offered.contains(&event)
        && !is_of_deadline
        && of_event.all(|outcome| outcome.how == How::Request || goes_on(&outcome.events))
}

fn is_compensated(flow: &Choreography, event: EventKey) -> bool {
    flow.producers(event).any(|(_, how)| how == How::Compensated)
}

fn of_producer(flow: &Choreography, event: EventKey, message: String) -> Finding {
    match flow.producers(event).next() {
        Some((node, _)) => Finding::at(Rule::PathsEnd, node, message),
        // Every event that can occur has a publisher.
        None => Finding::in_participant(Rule::PathsEnd, "", message),
    }
    .about(event)
}

//! Rules about termination: every wait has a limit, and every path leads to an end.

use std::collections::BTreeSet;

use crate::graph::{
    Choreography, Ending, EventKey, How, Node, NodeKind,
    causality::{Failure, Reach, same},
    check::{
        Finding, Rule,
        joins::{all_of, any_of, never_completes},
        list,
    },
};

pub(super) fn waits_have_deadlines(flow: &Choreography) -> Vec<Finding> {
    let forward = flow.forward();
    let has_deadline = |node: &Node| {
        let of_saga = |n: &&Node| flow.spec(n).is_some_and(|spec| spec.saga_deadline.is_some());
        let limits = |n: &&Node| of_saga(n) || is_limit(flow, n);
        flow.spec(node).is_some_and(|spec| spec.deadline.is_some())
            || actions(flow).filter(limits).any(|n| n.owner == node.owner && runs_too(flow, n, node))
    };
    let mut explained: Vec<&Node> = Vec::new();
    let mut unlimited: Vec<Unlimited<'_>> = Vec::new();
    // In the order of the declarations.
    for node in flow.nodes().iter().filter(|node| forward.iter().any(|n| same(n, node))) {
        if has_deadline(node) || flow.ends_the_saga(node) {
            continue;
        }
        let waits_for: Vec<_> = forward.iter().filter(|other| waits(flow, node, other)).collect();
        if waits_for.is_empty() {
            continue;
        }
        explained.extend(waits_for.iter().copied());
        let events = waits_for.iter().flat_map(|other| &other.triggers).copied();
        // One deadline until the end of the saga limits all waits of a participant that begin after it.
        let limits = |wait: &&mut Unlimited<'_>| limits_all(flow, wait.first, node);
        match unlimited.iter_mut().find(limits) {
            Some(wait) => {
                wait.others.push(node);
                wait.events.extend(events);
            }
            None => unlimited.push(Unlimited { first: node, others: Vec::new(), events: events.collect() }),
        }
    }
    let mut findings: Vec<Finding> = unlimited.iter().map(Unlimited::finding).collect();
    // A compensation that is a join waits for compensations, which are retried until they succeed.
    let is_explained = |join: &&Node| explained.iter().any(|n| same(n, join));
    for join in actions(flow).filter(|n| n.triggers.is_join() && !is_explained(n) && !is_limited(flow, n)) {
        let message = format!(
            "{} waits for {} and would wait for ever for one that does not come: add .arrivals_within(..) to it, or \
             .saga_deadline(..) to an earlier step of its participant",
            join.name,
            all_of(join),
        );
        findings.push(Finding::at(Rule::WaitsHaveDeadlines, join, message));
    }
    for step in actions(flow).filter(|n| !n.triggers.is_join() && flow.arrivals_deadline(n).is_some()) {
        let message = format!(
            "{} has .arrivals_within(..) and waits for one event, so nothing is ever limited: remove it, or take the events \
             that it is to wait for as a tuple",
            step.name,
        );
        findings.push(Finding::at(Rule::WaitsHaveDeadlines, step, message));
    }
    findings
}

/// Steps of a participant after which it waits for ever, and what it waits for.
struct Unlimited<'a> {
    first: &'a Node,
    others: Vec<&'a Node>,
    events: BTreeSet<EventKey>,
}

impl Unlimited<'_> {
    fn finding(&self) -> Finding {
        let first = self.first.name;
        let repair = match self.others[..] {
            [] => format!("add .deadline(..) to {first}"),
            _ => format!("add .saga_deadline(..) to {first}, or .deadline(..) to each of them"),
        };
        let message = format!(
            "after {} the participant waits for {} and would wait for ever: {repair}",
            list(std::iter::once(first).chain(self.others.iter().map(|step| step.name))),
            list(&self.events),
        );
        Finding::at(Rule::WaitsHaveDeadlines, self.first, message)
    }
}

/// Whether a deadline that runs from `first` until the end of the saga limits the wait after `other` too.
fn limits_all(flow: &Choreography, first: &Node, other: &Node) -> bool {
    let knows_the_end = flow.declarations().get(first.owner).is_some_and(|declaration| !declaration.ends.is_empty());
    knows_the_end && first.owner == other.owner && runs_too(flow, first, other)
}

/// Whether the step runs in rounds that end in a refusal, which limits what waits beside it.
fn is_limit(flow: &Choreography, node: &Node) -> bool {
    flow.spec(node).is_some_and(|spec| spec.rounds.is_some()) && node.published(How::Refusal).next().is_some()
}

/// Whether the wait of a join has a limit: its own, or that of a step of its participant that has always run when the first part
/// arrives. An arrival does not end a deadline, only a step that has run does, and it needs a deadline of its own.
fn is_limited(flow: &Choreography, join: &Node) -> bool {
    let has_deadline = |n: &&Node| flow.deadlines_after(n).next().is_some() || is_limit(flow, n);
    let of_participant = |n: &&Node| n.owner == join.owner && !same(n, join);
    flow.arrivals_deadline(join).is_some()
        || actions(flow).filter(of_participant).filter(has_deadline).any(|n| is_waiting_before(flow, n, join))
}

/// Whether `step` has run or runs as well in every saga in which a part of the join arrives, whatever leads to that.
fn is_waiting_before(flow: &Choreography, step: &Node, join: &Node) -> bool {
    let is_simple = !step.triggers.is_join();
    let starts = flow.starts().into_iter().filter(|event| !(is_simple && step.consumes(*event)));
    // One part suffices: the wait begins with the first.
    let without = flow.reach_by_one_part(starts, |n, p| match is_simple {
        true => !step.consumes(p.event),
        false => !same(n, step),
    });
    !without.has(join)
}

/// Whether `step` runs in every saga in which `other` runs, before or after it. A join needs all of its parts.
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
    let follows = |a: &Node, b: &Node| flow.forward_from(a).iter().any(|n| same(n, b));
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
    flow.nodes().iter().filter(|n| is_action(n))
}

fn is_action(node: &Node) -> bool {
    node.kind == NodeKind::Action
}

/// The actions and events that can follow from the publications of an action, through actions only. One part of a join suffices:
/// a join that waits for what follows from it is in a cycle.
fn steps_after<'a>(flow: &'a Choreography, node: &Node) -> (Vec<&'a Node>, BTreeSet<EventKey>) {
    let of_step = |how: How| matches!(how, How::Success | How::Refusal);
    let published = node.publishes.iter().filter(|p| of_step(p.how)).map(|p| p.event);
    let reach = flow.reach_by_one_part(published, |n, p| n.kind == NodeKind::Action && of_step(p.how));
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
    // A dropped event, an unanswered refusal, a cycle or a join that never completes on the way is a finding of its own.
    let is_refusal = |event| flow.producers(event).any(|(_, how)| how == How::Refusal);
    let stopping: Vec<&Node> =
        flow.nodes().iter().filter(|n| never_completes(flow, n) || is_action(n) && in_a_cycle(flow, n)).collect();
    let is_explained = |event, explained: &BTreeSet<EventKey>| {
        let after = flow.after(event);
        let is_found = |e: &EventKey| flow.is_dropped(*e) || flow.is_unanswered(*e) && is_refusal(*e);
        after.events.iter().any(|e| is_found(e) || explained.contains(e)) || stopping.iter().any(|n| after.has(n))
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
        // A join needs all of its parts.
        let from = std::iter::once(start).chain(flow.joined_requests());
        let reach = flow.reach(from, |node, p| node.kind == NodeKind::Action && p.how == How::Success);
        let completes = reach.events.iter().any(|e| flow.end(*e) == Some(Ending::Completed));
        if !completes && !is_explained(start, &explained) {
            let message =
                format!("no success completes a saga that {start} starts: declare one with .completes_with()");
            findings.push(of_producer(flow, start, message));
        }
    }
    for failure in failures(flow) {
        // Above, one part of a join sufficed. Here a join needs all of its parts.
        let follows = flow.follows_from(failure);
        if ends_in(failure.event, None)
            && !follows.events.iter().any(|e| flow.end(*e).is_some())
            && !is_explained(failure.event, &explained)
            && let Some((join, missing)) = left_waiting(flow, failure, &follows)
        {
            explained.insert(failure.event);
            let message = format!(
                "{} waits for {missing}, which does not follow from {}, so that no end does: add what happens then to that \
                 part, an enum with #[derive(Trigger)]",
                join.name, failure.event,
            );
            findings.push(Finding::at(Rule::PathsEnd, join, message).about(failure.event));
        }
    }
    findings
}

/// Every failure after which a saga goes back: a refusal, or a deadline or a request that compensates something.
fn failures(flow: &Choreography) -> Vec<Failure<'_>> {
    let of = |from, how| move |event| Failure { event, from, how };
    let mut failures = Vec::new();
    for from in flow.up_to_the_pivot() {
        failures.extend(from.published(How::Refusal).map(of(from, How::Refusal)));
        let after = flow.deadlines_after(from).filter(|_| !flow.is_final(from));
        failures.extend(after.chain(flow.arrivals_deadline(from)).map(of(from, How::Deadline)));
    }
    let starts = flow.starts();
    for from in flow.nodes().iter().filter(|n| n.kind == NodeKind::Request) {
        failures.extend(from.published(How::Request).filter(|e| !starts.contains(e)).map(of(from, How::Request)));
    }
    failures.sort_by_key(|failure| failure.event);
    failures.dedup_by_key(|failure| failure.event);
    failures.retain(|failure| failure.how == How::Refusal || flow.compensates_something(failure.event));
    failures
}

/// A join that has a part of what follows from the failure, and lacks another.
fn left_waiting<'a>(flow: &'a Choreography, failure: Failure<'_>, follows: &Reach<'_>) -> Option<(&'a Node, String)> {
    let given = flow.happens_with(failure);
    let comes = |part: &[EventKey]| part.iter().any(|e| follows.events.contains(e));
    let is_there = |part: &[EventKey]| comes(part) || part.iter().any(|e| given.contains(e));
    let joins = flow.nodes().iter().filter(|n| n.triggers.is_join() && n.triggers.parts().any(comes));
    joins.into_iter().find_map(|join| {
        let missing = join.triggers.parts().find(|part| !is_there(part))?;
        Some((join, any_of(missing)))
    })
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

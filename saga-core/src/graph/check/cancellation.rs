//! The rule about cancellations: one enters at the last step before the pivot, whose compensation releases the rest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::graph::{
    Choreography, Ending, EventKey, How, Node, NodeKind,
    causality::same,
    check::{Finding, Rule, list},
};

/// An event that cancels a saga, and the joins that are closed when it is published.
struct Cancellation<'a> {
    event: EventKey,
    closed: Vec<&'a Node>,
}

/// A step that runs although an earlier one was compensated, and its trigger.
type Hop<'a> = (&'a Node, EventKey);

pub(super) fn cancellations_enter_last(flow: &Choreography) -> Vec<Finding> {
    cancellations(flow).iter().filter_map(|cancellation| too_early(flow, cancellation)).collect()
}

fn too_early(flow: &Choreography, cancellation: &Cancellation<'_>) -> Option<Finding> {
    let event = cancellation.event;
    let follows = flow.reach([event], |n, _| n.kind == NodeKind::Compensation);
    let compensations = flow.nodes().iter().filter(|n| n.kind == NodeKind::Compensation && follows.has(n));
    let found: Vec<_> = compensations.filter_map(|undo| Some((undo, way_on(flow, cancellation, undo)?))).collect();
    // The path of one that it starts itself explains the others.
    let (undo, (hops, end)) = found.iter().find(|(undo, _)| undo.consumes(event)).or(found.first())?;
    let reached = || undo.triggers.iter().find(|t| follows.events.contains(t)).copied();
    let cause = if undo.consumes(event) { event } else { reached().unwrap_or(event) };
    let ran = |n: &Node, on: EventKey| format!("{}: {} runs on {on}", n.participant, n.name);
    let path = std::iter::once(ran(undo, cause)).chain(hops.iter().map(|(n, on)| ran(n, *on)));
    let compensated = list(found.iter().map(|(undo, _)| format!("{}: {}", undo.participant, undo.step)));
    let last = hops.iter().rev().map(|(n, _)| n).find(|n| !flow.is_final(n)).and_then(|n| flow.compensation_of(n));
    let decided = || ": let the participant of the pivot publish it, which knows whether it has gone on".to_owned();
    let repair = last.map_or_else(decided, |last| {
        let released = list(last.publishes.iter().map(|p| p.event));
        format!(
            ": let {event} start only {} of {}, which closes the last step before the pivot, and let the others follow from \
             {released}",
            last.name, last.participant,
        )
    });
    let message = format!(
        "{event} compensates {compensated} while later steps can still run on events in flight, so that a saga can end with {end} \
         and be compensated too ({}){repair}",
        path.collect::<Vec<_>>().join(", then "),
    );
    Some(Finding::at(Rule::CancellationsEnterLast, undo, message).about(event))
}

/// The events that compensate a saga at any moment: they are requested, or the deadline of a step publishes them.
fn cancellations(flow: &Choreography) -> Vec<Cancellation<'_>> {
    let starts = flow.starts();
    let mut found = BTreeMap::<EventKey, Option<Vec<&Node>>>::new();
    let requests = flow.nodes().iter().flat_map(|node| node.published(How::Request));
    for event in requests.filter(|event| !starts.contains(event)) {
        found.insert(event, None);
    }
    for node in flow.up_to_the_pivot() {
        if !flow.is_final(node) {
            found.extend(flow.deadlines_after(node).map(|event| (event, None)));
        }
        // When it passes, its join is closed; unless the event is published for another reason too.
        if let Some(event) = flow.arrivals_deadline(node)
            && let Some(closed) = found.entry(event).or_insert_with(|| Some(Vec::new()))
        {
            closed.push(node);
        }
    }
    let is_of_one = |event: EventKey, closed: &[&Node]| {
        closed.len() == 1 && flow.producers(event).all(|(n, _)| closed.iter().all(|join| same(n, join)))
    };
    let all = found.into_iter().map(|(event, closed)| {
        let closed = closed.filter(|closed| is_of_one(event, closed)).unwrap_or_default();
        Cancellation { event, closed }
    });
    all.filter(|cancellation| flow.compensates_something(cancellation.event)).collect()
}

/// How a saga completes although this compensation of the cancellation has run: the steps from the compensated one to the end.
fn way_on<'a>(
    flow: &'a Choreography,
    cancellation: &Cancellation<'_>,
    undo: &Node,
) -> Option<(Vec<Hop<'a>>, EventKey)> {
    let of_step = |n: &&Node| n.kind == NodeKind::Action && (n.owner, n.spec) == (undo.owner, undo.spec);
    let compensated = flow.before_the_pivot().into_iter().find(of_step)?;
    // A join that is closed never runs, so that nothing goes on from it.
    if cancellation.closed.iter().any(|n| same(n, compensated)) {
        return None;
    }
    // Other steps whose compensation always comes before this one have been closed.
    let is_closed_before = |step: &Node| {
        let Some(other) = flow.compensation_of(step) else { return false };
        let around = flow.reach([cancellation.event], |n, _| n.kind == NodeKind::Compensation && !same(n, other));
        !around.has(undo) && !same(other, undo)
    };
    // The participant of the pivot decides whether its saga is cancelled before it or goes on after it, unless the cancellation may
    // come from somebody else, who asks for it or whose deadline passes.
    let is_anytime = |how| matches!(how, How::Request | How::Deadline);
    let decides =
        |pivot: &Node| flow.producers(cancellation.event).all(|(n, how)| !is_anytime(how) || n.owner == pivot.owner);
    let forward = flow.forward();
    let mut seen: BTreeSet<EventKey> = BTreeSet::new();
    let mut next: VecDeque<(EventKey, Vec<Hop<'a>>)> =
        compensated.published(How::Success).map(|event| (event, Vec::new())).collect();
    while let Some((event, hops)) = next.pop_front() {
        if flow.end(event) == Some(Ending::Completed) && hops.iter().any(|(n, _)| !flow.is_final(n) || !decides(n)) {
            return Some((hops, event));
        }
        if !seen.insert(event) {
            continue;
        }
        // One part of a join suffices: the other parts of the saga were not compensated yet.
        for node in flow.consumers(event).filter(|n| forward.iter().any(|f| same(f, n))) {
            let is_after_the_pivot = hops.iter().any(|(n, _)| flow.is_final(n));
            // A step that cannot be compensated is a finding of its own.
            let can_run = match flow.is_final(node) {
                _ if cancellation.closed.iter().any(|n| same(n, node)) => false,
                _ if is_after_the_pivot => true,
                true => !hops.is_empty() || !decides(node),
                false => flow.compensation_of(node).is_some() && !is_closed_before(node) && !same(node, compensated),
            };
            if can_run {
                let hops = hops.iter().copied().chain([(node, event)]).collect::<Vec<_>>();
                next.extend(node.published(How::Success).map(|event| (event, hops.clone())));
            }
        }
    }
    None
}

//! Rules about compensation: steps before the pivot are compensated, and steps after it never are.

use crate::graph::{
    Choreography, EventKey, How, Node, NodeKind,
    causality::{Failure, same},
    check::{
        Finding, Rule,
        joins::{all_of, never_completes},
        list,
        paths::is_beside,
    },
};

pub(super) fn refusals_are_answered(flow: &Choreography) -> Vec<Finding> {
    let refusals = flow.nodes().iter().flat_map(|node| node.published(How::Refusal).map(move |event| (node, event)));
    refusals
        .filter(|(_, event)| flow.is_unanswered(*event) && !is_beside(flow, *event))
        .map(|(node, event)| {
            let who =
                if flow.offered.contains(&event) { "no participant but an optional one" } else { "no participant" };
            let message = format!(
                "{} refuses with {event}, which {who} consumes: let the compensation of the step before it, or the \
                 step that cancels the saga, be started by it",
                node.name,
            );
            Finding::at(Rule::RefusalsAreAnswered, node, message).about(event)
        })
        .collect()
}

pub(super) fn steps_can_be_compensated(flow: &Choreography) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in flow.nodes() {
        let before = flow.before_the_pivot().iter().any(|n| same(n, node));
        if !before || flow.compensation_of(node).is_some() || is_compensated_by_the_last_step(flow, node) {
            continue;
        }
        let failures = flow.later_failures(node);
        if let Some(first) = failures.first() {
            let message = format!(
                "{} may have to be compensated after {}, and has no compensation: add .undone_by(..), or declare the pivot at \
                 or before it",
                node.name,
                list(failures.iter().map(|f| f.event)),
            );
            findings.push(Finding::at(Rule::StepsCanBeCompensated, node, message).about(first.event));
        }
    }
    findings
}

/// A step without an event changes only its participant's own record of the saga. For the first step of a saga, and for
/// those of a participant that also cancels the saga, the cancelling step corrects that record.
fn is_compensated_by_the_last_step(flow: &Choreography, node: &Node) -> bool {
    let is_silent = node.published(How::Success).next().is_none();
    let starts = flow.starts();
    let is_first = node.triggers.iter().all(|t| starts.contains(t));
    let cancels = |n: &&Node| n.owner == node.owner && n.kind == NodeKind::Action && flow.ends_the_saga(n) && !n.pivot;
    is_silent && (is_first || flow.nodes().iter().any(|n| cancels(&n)))
}

pub(super) fn compensations_are_reached(flow: &Choreography) -> Vec<Finding> {
    // An undeclared event from outside is a finding of its own.
    let outside = flow.entrances().into_iter().chain(flow.occurring().events);
    let occurring = flow.reach(outside, |_, _| true);
    let mut findings = Vec::new();
    for undo in flow.nodes().iter().filter(|n| n.kind == NodeKind::Compensation) {
        // One that starts itself is a finding of its own, and so is a join that never completes.
        if occurring.has(undo) || undo.publishes.iter().any(|p| undo.consumes(p.event)) || never_completes(flow, undo) {
            continue;
        }
        // A trigger that is never published is a finding of its own.
        if undo.triggers.iter().all(|t| flow.producers(*t).next().is_some()) {
            if undo.triggers.is_join() {
                let message = format!("{} can never run, because {} never happen in one saga", undo.name, all_of(undo));
                findings.push(Finding::at(Rule::CompensationsAreReached, undo, message));
                continue;
            }
            let message = format!(
                "{} can never run, because {} would only follow from itself: start it by a refusal, or by the event of the \
                 compensation before it",
                undo.name,
                list(undo.triggers.iter()),
            );
            findings.push(Finding::at(Rule::CompensationsAreReached, undo, message));
        }
    }
    for step in flow.before_the_pivot() {
        let Some(undo) = flow.compensation_of(step).filter(|undo| occurring.has(undo)) else { continue };
        for failure in flow.later_failures(step) {
            if breaks_off(flow, failure.event) || flow.follows_from(failure).has(undo) {
                continue;
            }
            let message = format!(
                "{} is not reached from {}: {} was done when {}; add that event, or one that follows from it, to \
                 the triggers of {}",
                undo.name,
                failure.event,
                step.name,
                cause(failure),
                undo.name,
            );
            findings.push(Finding::at(Rule::CompensationsAreReached, step, message).about(failure.event));
        }
    }
    findings.sort_by(|a, b| (a.participant, a.step, a.event).cmp(&(b.participant, b.step, b.event)));
    findings
}

fn cause(failure: Failure<'_>) -> String {
    let Failure { from, how, .. } = failure;
    match how {
        How::Deadline => format!("{}'s deadline in {} passes", from.name, from.participant),
        How::Request => format!("{} asks for it", from.participant),
        _ => format!("{} refuses in {}", from.name, from.participant),
    }
}

/// Whether some event on the path is dropped. That is a finding of its own, which probably explains this one.
fn breaks_off(flow: &Choreography, event: EventKey) -> bool {
    flow.after(event).events.iter().any(|e| flow.is_dropped(*e))
}

pub(super) fn pivot_is_final(flow: &Choreography) -> Vec<Finding> {
    let up_to = flow.up_to_the_pivot();
    let beyond = |node: &&Node| !up_to.iter().any(|n| same(n, node));
    let mut findings = Vec::new();
    for node in flow.forward().into_iter().filter(beyond) {
        for event in node.published(How::Refusal).chain(node.published(How::Deadline)) {
            if flow.compensates_something(event) {
                let message = format!(
                    "{} comes after the pivot, yet its {event} compensates earlier steps: move the pivot behind it, or answer \
                     with a step that goes forward",
                    node.name,
                );
                findings.push(Finding::at(Rule::PivotIsFinal, node, message).about(event));
            }
        }
    }
    findings
}

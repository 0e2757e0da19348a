//! Counts the events that each participant handled, dead-lettered and passed over, and finds those that are missing.

use std::collections::{BTreeMap, BTreeSet};

use saga_core::{barrier::Op, graph::Declaration};
use serde::Serialize;

use super::{Evidence, Invariant};
use saga_tools::event::{Event, is_dead_letter, text};

/// The events on the topics that a participant reads, by outcome.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct EventCounts {
    pub(crate) participant: String,
    pub(crate) produced: usize,
    pub(crate) handled: usize,
    pub(crate) dead_lettered: usize,
    /// Events of types that it does not consume.
    pub(crate) passed_over: usize,
    /// Records that repeat an event; each event counts once above.
    pub(crate) repeated: usize,
}

/// The counts of each participant, and their violations.
pub(super) fn of(evidence: &Evidence<'_>) -> Vec<(EventCounts, Vec<String>)> {
    evidence.flow.declarations().iter().map(|declaration| counts(evidence, declaration)).collect()
}

fn counts(evidence: &Evidence<'_>, declaration: &Declaration) -> (EventCounts, Vec<String>) {
    let participant = declaration.participant;
    let halves = consumed(declaration);
    let topics: BTreeSet<&str> = halves.values().map(|(topic, ..)| *topic).collect();
    let barrier = evidence.state.tables.get(participant).map(|event_counts| &event_counts.barrier);
    let decided = |event: &Event| {
        let half = halves.get(event.kind.as_str()).map(|(_, step, op)| (event.saga, (*step).to_owned(), *op));
        half.is_some_and(|half| barrier.is_some_and(|barrier| barrier.contains_key(&half)))
    };
    let dead_lettered: BTreeSet<String> = evidence
        .log
        .dead_letters()
        .filter(|dead_letter| text(dead_letter, "__dlq.errors.group") == Some(participant))
        .map(|dead_letter| {
            let part = |name: &str| text(dead_letter, &format!("__dlq.errors.{name}")).unwrap_or_default().to_owned();
            format!("{}/{}/{}", part("topic"), part("partition"), part("offset"))
        })
        .collect();

    let mut counts = EventCounts {
        participant: participant.to_owned(),
        produced: 0,
        handled: 0,
        dead_lettered: 0,
        passed_over: 0,
        repeated: 0,
    };
    let (mut violations, mut seen) = (Vec::new(), BTreeSet::new());
    for entry in &evidence.log.entries {
        let record = &entry.record;
        if is_dead_letter(record) || !topics.contains(&*record.topic) {
            continue;
        }
        let place = format!("{}/{}/{}", record.topic, record.partition, record.offset);
        let event = entry.event.as_ref();
        if let Some(event) = event
            && !seen.insert(event.identity)
        {
            counts.repeated += 1;
            continue;
        }
        counts.produced += 1;
        if dead_lettered.contains(&place) {
            counts.dead_lettered += 1;
        } else if event.is_some_and(|event| !halves.contains_key(event.kind.as_str())) {
            counts.passed_over += 1;
        } else if event.is_some_and(decided) {
            counts.handled += 1;
        } else {
            let kind = event.map_or("a record", |event| &event.kind);
            violations.push(format!("{participant}: {kind} at {place} is neither handled nor dead-lettered"));
        }
    }
    let strangers = barrier.into_iter().flatten().filter(|(_, cause)| !seen.contains(*cause));
    violations.extend(strangers.map(|((saga, step, _), _)| {
        format!("{participant}: {step} of {saga} was caused by an event that is on no topic")
    }));
    (counts, violations)
}

/// The events that a participant consumes, with their topic, step and operation.
pub(super) fn consumed(declaration: &Declaration) -> BTreeMap<&'static str, (&'static str, &'static str, Op)> {
    let halves = declaration.steps.iter().flat_map(|step| {
        let actions = step.triggers.iter().map(|event| (event, Op::Action));
        let compensations =
            step.compensation.iter().flat_map(|undo| undo.triggers.iter().map(|event| (event, Op::Compensate)));
        actions.chain(compensations).map(|(event, op)| (event.name, (event.topic, step.name, op)))
    });
    halves.collect()
}

pub(super) fn balance(evidence: &Evidence<'_>, event_counts: &[(EventCounts, Vec<String>)]) -> Invariant {
    let sum = |of: fn(&EventCounts) -> usize| event_counts.iter().map(|(counts, _)| of(counts)).sum::<usize>();
    let numbers = format!(
        "{} = {} + {} + {}, from {} records",
        sum(|b| b.produced),
        sum(|b| b.handled),
        sum(|b| b.dead_lettered),
        sum(|b| b.passed_over),
        evidence.log.entries.iter().filter(|entry| !is_dead_letter(&entry.record)).count()
    );
    let violations = event_counts.iter().flat_map(|(_, violations)| violations.clone()).collect();
    Invariant::new("produced = handled + dead-lettered + passed over", numbers, violations)
}

pub(super) fn nothing_left(evidence: &Evidence<'_>) -> Invariant {
    let (mut outbox, mut parked, mut violations) = (0, 0, Vec::new());
    for (participant, event_counts) in &evidence.state.tables {
        (outbox, parked) = (outbox + event_counts.outbox, parked + event_counts.parked);
        if event_counts.outbox > 0 || event_counts.parked > 0 {
            violations
                .push(format!("{participant}: {} in the outbox, {} parked", event_counts.outbox, event_counts.parked));
        }
    }
    let numbers = format!("{outbox} in outboxes, {parked} parked");
    Invariant::new("outboxes are empty, nothing is parked", numbers, violations)
}

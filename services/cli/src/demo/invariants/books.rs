//! Where every record went: handled, dead-lettered or passed over, and nothing left on the way.

use std::collections::{BTreeMap, BTreeSet};

use saga_core::{barrier::Op, graph::Declaration};
use serde::Serialize;

use super::{Evidence, Invariant};
use saga_tools::event::{Event, is_dead_letter, text};

/// What became of the events on the topics that a participant reads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Book {
    pub(crate) participant: String,
    pub(crate) produced: usize,
    pub(crate) handled: usize,
    pub(crate) dead_lettered: usize,
    /// Of types that it does not consume.
    pub(crate) passed_over: usize,
    /// Records that bring an event again; each event counts once above.
    pub(crate) repeated: usize,
}

/// A book for each participant, and what does not add up in it.
pub(super) fn of(evidence: &Evidence<'_>) -> Vec<(Book, Vec<String>)> {
    evidence.flow.declarations().iter().map(|declaration| book(evidence, declaration)).collect()
}

fn book(evidence: &Evidence<'_>, declaration: &Declaration) -> (Book, Vec<String>) {
    let participant = declaration.participant;
    let halves = consumed(declaration);
    let topics: BTreeSet<&str> = halves.values().map(|(topic, ..)| *topic).collect();
    let barrier = evidence.facts.books.get(participant).map(|books| &books.barrier);
    let decided = |event: &Event| {
        let half = halves.get(event.kind.as_str()).map(|(_, step, op)| (event.saga, (*step).to_owned(), *op));
        half.is_some_and(|half| barrier.is_some_and(|barrier| barrier.contains_key(&half)))
    };
    let buried: BTreeSet<String> = evidence
        .journal
        .dead_letters()
        .filter(|letter| text(letter, "__dlq.errors.group") == Some(participant))
        .map(|letter| {
            let part = |name: &str| text(letter, &format!("__dlq.errors.{name}")).unwrap_or_default().to_owned();
            format!("{}/{}/{}", part("topic"), part("partition"), part("offset"))
        })
        .collect();

    let mut book = Book {
        participant: participant.to_owned(),
        produced: 0,
        handled: 0,
        dead_lettered: 0,
        passed_over: 0,
        repeated: 0,
    };
    let (mut violations, mut seen) = (Vec::new(), BTreeSet::new());
    for entry in &evidence.journal.entries {
        let record = &entry.record;
        if is_dead_letter(record) || !topics.contains(&*record.topic) {
            continue;
        }
        let place = format!("{}/{}/{}", record.topic, record.partition, record.offset);
        let event = entry.event.as_ref();
        if let Some(event) = event
            && !seen.insert(event.identity)
        {
            book.repeated += 1;
            continue;
        }
        book.produced += 1;
        if buried.contains(&place) {
            book.dead_lettered += 1;
        } else if event.is_some_and(|event| !halves.contains_key(event.kind.as_str())) {
            book.passed_over += 1;
        } else if event.is_some_and(decided) {
            book.handled += 1;
        } else {
            let kind = event.map_or("a record", |event| &event.kind);
            violations.push(format!("{participant}: {kind} at {place} is neither handled nor dead-lettered"));
        }
    }
    let strangers = barrier.into_iter().flatten().filter(|(_, cause)| !seen.contains(*cause));
    violations.extend(strangers.map(|((saga, step, _), _)| {
        format!("{participant}: {step} of {saga} was caused by an event that is on no topic")
    }));
    (book, violations)
}

/// The events that a participant consumes: their topics, and the half of the step that each asks for.
pub(super) fn consumed(declaration: &Declaration) -> BTreeMap<&'static str, (&'static str, &'static str, Op)> {
    let halves = declaration.steps.iter().flat_map(|step| {
        let actions = step.triggers.iter().map(|event| (event, Op::Action));
        let undo = step.compensation.iter().flat_map(|undo| undo.triggers.iter().map(|event| (event, Op::Compensate)));
        actions.chain(undo).map(|(event, op)| (event.name, (event.topic, step.name, op)))
    });
    halves.collect()
}

pub(super) fn balance(evidence: &Evidence<'_>, books: &[(Book, Vec<String>)]) -> Invariant {
    let sum = |of: fn(&Book) -> usize| books.iter().map(|(book, _)| of(book)).sum::<usize>();
    let numbers = format!(
        "{} = {} + {} + {}, from {} records",
        sum(|b| b.produced),
        sum(|b| b.handled),
        sum(|b| b.dead_lettered),
        sum(|b| b.passed_over),
        evidence.journal.entries.iter().filter(|entry| !is_dead_letter(&entry.record)).count()
    );
    let violations = books.iter().flat_map(|(_, violations)| violations.clone()).collect();
    Invariant::new("produced = handled + dead-lettered + passed over", numbers, violations)
}

pub(super) fn nothing_left(evidence: &Evidence<'_>) -> Invariant {
    let (mut outbox, mut parked, mut violations) = (0, 0, Vec::new());
    for (participant, books) in &evidence.facts.books {
        (outbox, parked) = (outbox + books.outbox, parked + books.parked);
        if books.outbox > 0 || books.parked > 0 {
            violations.push(format!("{participant}: {} in the outbox, {} parked", books.outbox, books.parked));
        }
    }
    let numbers = format!("{outbox} in outboxes, {parked} parked");
    Invariant::new("outboxes are empty, nothing is parked", numbers, violations)
}

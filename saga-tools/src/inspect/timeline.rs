//! The timeline of one saga: an entry for each of its records.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use saga_core::graph::{Choreography, EventKey, Node, NodeKind};

use super::{
    causal_order::CausalOrder,
    timeline_entry::{Cause, DeadLetterDetails, EntryKind, ProducedBy, RecordPosition, TimelineEntry},
};
use crate::{
    dead_letter::DeadLetter,
    event::Event,
    observed_record::{ObservedRecord, RecordContent},
    producing_step::{declared_event, producing_step},
};

/// The first time of each event of the flow.
pub(super) type FirstSeen = BTreeMap<&'static str, Timestamp>;

/// Adds one record after the other.
pub(super) struct TimelineBuilder<'a> {
    pub(super) flow: &'a Choreography,
    pub(super) observed: &'a [ObservedRecord],
    pub(super) order: &'a CausalOrder<'a>,
    pub(super) first_seen: FirstSeen,
    pub(super) kinds: BTreeSet<&'a str>,
}

impl<'a> TimelineBuilder<'a> {
    /// The entry of this record.
    pub(super) fn entry(&mut self, index: usize, before: Option<Timestamp>) -> TimelineEntry {
        let observed = &self.observed[index];
        let (at, ..) = self.order.key(index);
        let data = observed.value.as_deref().map(|v| serde_json::from_slice(v).unwrap_or_else(|_| lossy(v)));
        let entry = TimelineEntry {
            at,
            since_previous_ms: before.map_or(0.0, |before| ms_between(before, at)),
            what: EntryKind::Unreadable,
            participant: String::new(),
            event: None,
            version: None,
            event_id: None,
            known: false,
            again: false,
            null_compensation: false,
            compensation_failed: false,
            partly_compensated: false,
            reason: None,
            made_by: None,
            caused_by: None,
            dead_letter: None,
            fault: None,
            record: RecordPosition {
                topic: observed.topic.to_string(),
                partition: observed.partition,
                offset: observed.offset,
            },
            data,
        };
        match &observed.content {
            RecordContent::Event(event) => self.event(index, event, entry),
            RecordContent::DeadLetter(dead_letter) => self.dead_letter(dead_letter, entry),
            RecordContent::Unreadable { kind, poison } => TimelineEntry {
                event: kind.clone(),
                fault: Some(format!("{}: {poison}", poison.reason.as_str())),
                ..entry
            },
        }
    }

    fn event(&mut self, index: usize, event: &'a Event, entry: TimelineEntry) -> TimelineEntry {
        let key = declared_event(self.flow, event);
        let is_duplicate = self.order.is_duplicate(index);
        let cause = event.cause.as_deref().map(|id| Cause {
            event_id: id.to_owned(),
            event: self.order.original(id).map(|event| event.kind.clone()),
        });
        let caused_by = cause.as_ref().and_then(|cause| cause.event.as_deref());
        let made = key.and_then(|_| producing_step(self.flow, event, caused_by));
        let made_by = made.map(|(node, how)| ProducedBy {
            step: node.name,
            kind: node.kind,
            how,
            compensates: (node.kind == NodeKind::Compensation).then_some(node.step),
        });
        let again = !is_duplicate && !self.kinds.insert(&event.kind);
        if let (Some(key), false) = (key, is_duplicate) {
            self.first_seen.entry(key.name).or_insert(entry.at);
        }
        TimelineEntry {
            what: if is_duplicate { EntryKind::Duplicate } else { EntryKind::Event },
            participant: event.source.clone(),
            event: Some(event.kind.clone()),
            version: Some(event.version),
            event_id: Some(event.id.clone()),
            known: key.is_some(),
            again,
            null_compensation: event.null,
            compensation_failed: event.compensation_failed,
            partly_compensated: event.partly_compensated,
            reason: event.reason.clone(),
            made_by,
            caused_by: cause,
            ..entry
        }
    }

    fn dead_letter(&self, dead_letter: &DeadLetter, entry: TimelineEntry) -> TimelineEntry {
        let event = dead_letter.event.as_ref();
        let consumes = |node: &&Node| is_about(dead_letter, node.participant, &node.triggers);
        let mut steps = self.flow.nodes().iter().filter(consumes).map(|node| (node.name, node.publishes.is_empty()));
        // Prefer the step that publishes an answer; other steps leave no trace in Kafka.
        let step = steps.clone().find(|(_, is_quiet)| !is_quiet).or_else(|| steps.next()).map(|(name, _)| name);
        TimelineEntry {
            what: EntryKind::DeadLetter,
            participant: dead_letter.participant.clone(),
            event: event.map(|event| event.kind.clone()),
            version: event.map(|event| event.version),
            event_id: event.map(|event| event.id.clone()),
            known: event.is_some_and(|event| declared_event(self.flow, event).is_some()),
            dead_letter: Some(DeadLetterDetails {
                reason: dead_letter.reason.clone(),
                message: dead_letter.message.clone(),
                attempts: dead_letter.attempts,
                first_failed_at: dead_letter.first_failed_at,
                topic: dead_letter.topic.clone(),
                partition: dead_letter.partition,
                offset: dead_letter.offset,
                step,
            }),
            ..entry
        }
    }
}

/// Data that is not JSON, shown as text.
fn lossy(value: &[u8]) -> serde_json::Value {
    String::from_utf8_lossy(value).into_owned().into()
}

pub(super) fn ms_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}

/// Whether this participant dead-lettered one of these events.
pub(super) fn is_about(dead_letter: &DeadLetter, participant: &str, triggers: &[EventKey]) -> bool {
    let event = dead_letter.event.as_ref();
    dead_letter.is_of(participant) && event.is_some_and(|e| triggers.iter().any(|trigger| trigger.name == e.kind))
}

//! Rules about names and events: all participants mean the same by them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    event::EventType,
    graph::{
        Choreography, EventKey, How, Node,
        causality::same,
        check::{Finding, Rule, list},
    },
};

pub(super) fn participants_are_distinct(flow: &Choreography) -> Vec<Finding> {
    let mut times = BTreeMap::<_, usize>::new();
    for declaration in flow.declarations() {
        *times.entry(declaration.participant).or_default() += 1;
    }
    let twice = times.into_iter().filter(|(_, times)| *times > 1);
    twice
        .map(|(name, times)| {
            let message = format!(
                "{times} participants are named \"{name}\", so they would share one consumer group: rename all but one"
            );
            Finding::in_participant(Rule::ParticipantsAreDistinct, name, message)
        })
        .collect()
}

pub(super) fn steps_are_named(flow: &Choreography) -> Vec<Finding> {
    let mut findings = Vec::new();
    for declaration in flow.declarations() {
        let mut seen = BTreeSet::new();
        for step in &declaration.steps {
            let is_unnamed = step.name.is_empty();
            let message = if is_unnamed {
                let triggers = list(step.triggers.iter().map(|t| t.name));
                format!("the step on {triggers} has no name: give it one, Step::new(\"..\", ..)")
            } else if seen.insert(step.name) {
                continue;
            } else {
                format!("two steps are named {}: rename one of them", step.name)
            };
            let finding = Finding::in_participant(Rule::StepsAreNamed, declaration.participant, message);
            findings.push(Finding { step: Some(step.name), ..finding });
        }
    }
    findings
}

pub(super) fn events_agree(flow: &Choreography) -> Vec<Finding> {
    let mut findings = Vec::new();
    for declaration in flow.declarations() {
        let mut seen = BTreeSet::new();
        let ends = declaration.ends.iter().map(|end| end.event);
        for event in declaration.published().chain(declaration.consumed()).chain(ends) {
            let key = EventKey::from(event);
            let Some(first) = flow.event(key).map(|node| node.event) else { continue };
            let other = owner_of(flow, key);
            let message = if event.topic != first.topic {
                format!(
                    "{key} is on topic {} here and on {} in {other}: give both the same topic",
                    event.topic, first.topic
                )
            } else if contract(event) != contract(first) {
                format!("the data of {key} differs from {other}'s: use one type, or give the changed one a new version")
            } else {
                continue;
            };
            if seen.insert(key) {
                let finding = Finding::in_participant(Rule::EventsAgree, declaration.participant, message);
                findings.push(finding.about(key));
            }
        }
    }
    findings
}

/// The participant whose declaration of the event is the reference: the first that declares it.
fn owner_of(flow: &Choreography, key: EventKey) -> &'static str {
    let declares = |event: EventType| EventKey::from(event) == key;
    let mut all = flow.declarations().iter();
    all.find(|d| d.published().chain(d.consumed()).any(declares)).map_or("another participant", |d| d.participant)
}

/// The schema without its annotations.
fn contract(event: EventType) -> Value {
    let mut schema = event.schema();
    strip(&mut schema);
    schema
}

fn strip(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for words in ["$schema", "$id", "title", "description", "examples"] {
                fields.remove(words);
            }
            for (name, value) in fields {
                match value {
                    // The keys of these are names of fields and types, not keywords.
                    Value::Object(named) if name == "properties" || name == "$defs" => {
                        named.values_mut().for_each(strip)
                    }
                    other => strip(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

pub(super) fn one_step_per_event(flow: &Choreography) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (owner, declaration) in flow.declarations().iter().enumerate() {
        // Compared by name: the runtime chooses the step before it reads the version.
        let mut starts = BTreeMap::<&str, Vec<(&Node, EventKey)>>::new();
        for node in flow.nodes().iter().filter(|n| n.owner == owner) {
            for trigger in &node.triggers {
                starts.entry(trigger.name).or_default().push((node, *trigger));
            }
        }
        for (event, started) in starts {
            let in_parts = |(node, _): &(&Node, EventKey)| {
                node.triggers.parts().filter(|part| part.iter().any(|trigger| trigger.name == event)).count() > 1
            };
            // One event in two parts of a join is a finding of its own.
            if started.iter().all(|(node, _)| same(node, started[0].0)) && started.iter().any(in_parts) {
                continue;
            }
            if let [_, .., (last, key)] = started.as_slice() {
                let names = list(started.iter().map(|(node, _)| node.name));
                let message = format!(
                    "{event} starts {names}, and only the first would run: do the work of both in one step, or give one \
                     another trigger"
                );
                debug_assert_eq!(last.participant, declaration.participant);
                findings.push(Finding::at(Rule::OneStepPerEvent, last, message).about(*key));
            }
        }
    }
    findings
}

pub(super) fn events_are_published_once(flow: &Choreography) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in flow.nodes() {
        let mut seen = BTreeSet::new();
        for outcome in &node.outcomes {
            // Compared by name, as a consumer chooses its step.
            let names: Vec<&str> = outcome.events.iter().map(|event| event.name).collect();
            let twice = |(i, event): &(usize, &EventKey)| names[..*i].contains(&event.name);
            let Some((_, event)) = outcome.events.iter().enumerate().find(twice).filter(|(_, e)| seen.insert(e.name))
            else {
                continue;
            };
            let message = format!(
                "{} publishes {} twice at once, but what it starts runs once in a saga: publish one event with all of the \
                 data, or events of different types",
                node.name, event.name,
            );
            findings.push(Finding::at(Rule::EventsArePublishedOnce, node, message).about(*event));
        }
    }
    findings
}

pub(super) fn consumed_is_published(flow: &Choreography) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_published = |event: EventKey| flow.producers(event).next().is_some();
    for node in flow.nodes() {
        for event in node.triggers.iter().copied().filter(|e| !is_published(*e)) {
            let message = format!(
                "{} waits for {event}, which no participant publishes{}: publish it in a step, declare it with .publishes() where \
                 it comes from, or remove the trigger",
                node.name,
                other_versions(flow, event),
            );
            findings.push(Finding::at(Rule::ConsumedIsPublished, node, message).about(event));
        }
    }
    for declaration in flow.declarations() {
        for event in declaration.ends.iter().map(|end| EventKey::from(end.event)).filter(|e| !is_published(*e)) {
            let message =
                format!("{event} is declared an end, but no participant publishes it: publish it, or remove the end");
            let finding = Finding::in_participant(Rule::ConsumedIsPublished, declaration.participant, message);
            findings.push(finding.about(event));
        }
    }
    findings
}

/// `(payment publishes version 2)`: the likeliest cause is a version that was raised on one side only.
fn other_versions(flow: &Choreography, event: EventKey) -> String {
    let others = flow.events_named(event.name).filter(|(key, _)| key.version != event.version);
    let made: Vec<_> = others
        .filter_map(|(key, _)| {
            flow.producers(key).next().map(|(n, _)| format!("{} publishes version {}", n.participant, key.version))
        })
        .collect();
    if made.is_empty() { String::new() } else { format!(" ({})", list(made)) }
}

pub(super) fn published_is_consumed(flow: &Choreography) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let published = flow.nodes().iter().flat_map(|node| node.publishes.iter().map(move |p| (node, p)));
    published
        .filter(|(_, p)| p.how != How::Refusal && flow.is_dropped(p.event) && seen.insert(p.event))
        .map(|(node, p)| {
            let message = format!(
                "{} publishes {}, which no participant consumes: consume it, declare it with .completes_with() or .compensates_with(), \
                 or do not publish it",
                node.name, p.event,
            );
            Finding::at(Rule::PublishedIsConsumed, node, message).about(p.event)
        })
        .collect()
}

//! The poison event: an unreadable record that exactly its consumers must dead-letter.

use saga_core::{
    dead_letter::{self, Reason},
    envelope::header,
    graph::NodeKind,
    record::{Header, OutRecord, Record},
};
use uuid::Uuid;

use super::{Evidence, Invariant};
use saga_tools::{
    event::{is_dead_letter, text},
    text::count,
};

/// An event that no participant can read.
pub(crate) struct PoisonEvent {
    pub(crate) record: OutRecord,
    pub(crate) kind: &'static str,
    /// The expected reason of its dead letters.
    pub(crate) reason: Reason,
}

impl PoisonEvent {
    /// An `order.created` whose JSON is cut off.
    pub(crate) fn new() -> Self {
        let (order_id, kind) = (Uuid::now_v7(), "order.created");
        let headers = vec![
            Header::text(header::SPECVERSION, "1.0"),
            Header::text(header::ID, Uuid::now_v7().to_string()),
            Header::text(header::SOURCE, "/somebody-else"),
            Header::text(header::TYPE, kind),
            Header::text(header::TIME, jiff::Timestamp::now().to_string()),
            Header::text(header::CONTENT_TYPE, "application/json"),
            Header::text("x-request", "7"),
        ];
        let value = format!(r#"{{"order_id": "{order_id}", "items": [{{"sku": "TEA-SEN"#);
        let key = Some(order_id.to_string().into_bytes());
        let record = OutRecord { topic: "order.events".into(), key, value: Some(value.into_bytes()), headers };
        Self { record, kind, reason: Reason::Undecodable }
    }

    fn is(&self, record: &Record) -> bool {
        record.key == self.record.key && record.value == self.record.value
    }

    /// The participants that consume its type and must dead-letter it.
    pub(crate) fn consumers<'a>(&self, evidence: &'a Evidence<'_>) -> Vec<&'a str> {
        let of_kind = evidence.flow.events_named(self.kind).map(|(key, _)| key);
        let mut consumers: Vec<&str> = of_kind
            .flat_map(|key| evidence.flow.consumers(key))
            .filter(|node| node.kind != NodeKind::Request)
            .map(|node| node.participant)
            .collect();
        consumers.sort_unstable();
        consumers.dedup();
        consumers
    }
}

pub(super) fn dead_lettered(evidence: &Evidence<'_>) -> Invariant {
    let poison = evidence.poison;
    let consumers = poison.consumers(evidence);
    let original = evidence.log.entries.iter().map(|e| &e.record).find(|r| !is_dead_letter(r) && poison.is(r));
    let dead_letters: Vec<&Record> = evidence.log.dead_letters().collect();
    let mut violations = Vec::new();
    for participant in &consumers {
        let topic = dead_letter::topic(participant);
        let of_topic: Vec<&&Record> = dead_letters.iter().filter(|dead_letter| *dead_letter.topic == *topic).collect();
        match of_topic[..] {
            [dead_letter] => violations.extend(flaws(poison, dead_letter, participant, original)),
            _ => violations.push(format!("{topic}: {}", count(of_topic.len(), "dead letter"))),
        }
    }
    let expected = |dead_letter: &&&Record| consumers.iter().any(|p| *dead_letter.topic == *dead_letter::topic(p));
    violations.extend(dead_letters.iter().filter(|l| !expected(l)).map(|l| format!("{}: a dead letter", l.topic)));
    let reason = poison.reason.as_str();
    let numbers = format!("{}: {reason}, in {}", count(dead_letters.len(), "dead letter"), topics(&consumers));
    Invariant::new("only the poison event is dead-lettered, as it came", numbers, violations)
}

fn topics(consumers: &[&str]) -> String {
    consumers.iter().map(|p| dead_letter::topic(p)).collect::<Vec<_>>().join(" and ")
}

fn flaws(poison: &PoisonEvent, dead_letter: &Record, participant: &str, original: Option<&Record>) -> Vec<String> {
    let topic = &dead_letter.topic;
    let mut flaws = Vec::new();
    if !poison.is(dead_letter) {
        flaws.push(format!("{topic}: key or value are not the original ones"));
    }
    if !dead_letter.headers.starts_with(&poison.record.headers) {
        flaws.push(format!("{topic}: the original headers are not there"));
    }
    let Some(original) = original else {
        flaws.push("the poison event is on no topic".to_owned());
        return flaws;
    };
    for (name, wanted) in [
        ("error.type", poison.reason.as_str().to_owned()),
        ("__dlq.errors.group", participant.to_owned()),
        ("__dlq.errors.topic", original.topic.to_string()),
        ("__dlq.errors.partition", original.partition.to_string()),
        ("__dlq.errors.offset", original.offset.to_string()),
    ] {
        let found = text(dead_letter, name);
        if found != Some(wanted.as_str()) {
            flaws.push(format!("{topic}: {name} is {}, not {wanted}", found.unwrap_or("missing")));
        }
    }
    flaws
}

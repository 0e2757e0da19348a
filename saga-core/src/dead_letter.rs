//! Dead letters: events that a participant does not try again by itself, published with the reason.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::record::{Header, OutRecord, Record};

/// Why an event was dead-lettered; the `error.type` header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// `ce_type` is missing.
    MissingType,
    /// The key is missing.
    MissingKey,
    /// The key is not a saga id, differs from the saga id in the data, or one of the two is not in canonical spelling.
    KeyMismatch,
    /// Headers or data cannot be read.
    Undecodable,
    /// The type is consumed, but not in this version.
    UnsupportedVersion,
    /// The data is readable, but violates a rule.
    Invalid,
    /// A transient failure outlasted the step's retry policy.
    RetriesExhausted,
    /// A failure that no retry can repair.
    Permanent,
}

impl Reason {
    /// All reasons, for tables and metrics.
    pub const ALL: [Self; 8] = [
        Self::MissingType,
        Self::MissingKey,
        Self::KeyMismatch,
        Self::Undecodable,
        Self::UnsupportedVersion,
        Self::Invalid,
        Self::RetriesExhausted,
        Self::Permanent,
    ];

    /// The value of `error.type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingType => "missing_type",
            Self::MissingKey => "missing_key",
            Self::KeyMismatch => "key_mismatch",
            Self::Undecodable => "undecodable",
            Self::UnsupportedVersion => "unsupported_version",
            Self::Invalid => "invalid",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Permanent => "permanent",
        }
    }
}

/// A record that can never be handled as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Poison {
    /// The reason, by class.
    pub reason: Reason,
    /// What is wrong, without quoting the data.
    pub message: String,
}

impl Poison {
    /// A poison record of this class.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Names of the headers that a dead letter has in addition to those of its record.
pub mod header {
    #![allow(missing_docs, reason = "each is the name it holds")]
    pub const TOPIC: &str = "__dlq.errors.topic";
    pub const PARTITION: &str = "__dlq.errors.partition";
    pub const OFFSET: &str = "__dlq.errors.offset";
    pub const GROUP: &str = "__dlq.errors.group";
    pub const MESSAGE: &str = "__dlq.errors.message";
    pub const REASON: &str = "error.type";
    pub const ATTEMPTS: &str = "attempts";
    pub const FIRST_FAILED_AT: &str = "first_failed_at";
    /// The parts of the original that are missing from the dead letter because the broker refused them: `value`,
    /// `headers`, `key`. The other headers say where the original is.
    pub const OMITTED: &str = "__dlq.errors.omitted";
    pub(super) const ALL: [&str; 9] =
        [TOPIC, PARTITION, OFFSET, GROUP, MESSAGE, REASON, ATTEMPTS, FIRST_FAILED_AT, OMITTED];
}

/// The longest text of a header, in bytes. Longer texts are cut: a dead letter must not be much larger than its record.
const MAX_TEXT: usize = 1024;

/// The dead-letter topic of a participant.
pub fn topic(participant: &str) -> String {
    format!("{participant}.dlq")
}

/// The dead letter for a record: original key, value and headers, plus which participant dead-lettered it, where, when
/// and why. The `__dlq.errors.*` names are Kafka's own (KIP-1191). Headers of an earlier failure are replaced.
pub fn letter(group: &str, record: &Record, poison: &Poison, attempts: u32, failed_at: Timestamp) -> OutRecord {
    let added = [
        (header::TOPIC, record.topic.to_string()),
        (header::PARTITION, record.partition.to_string()),
        (header::OFFSET, record.offset.to_string()),
        (header::GROUP, group.to_owned()),
        (header::MESSAGE, cap(&poison.message).to_owned()),
        (header::REASON, poison.reason.as_str().to_owned()),
        (header::ATTEMPTS, attempts.to_string()),
        (header::FIRST_FAILED_AT, failed_at.to_string()),
    ];
    let mut headers: Vec<Header> = record.headers.iter().filter(|h| !is_ours(h)).cloned().collect();
    headers.extend(added.into_iter().map(|(name, value)| Header::text(name, value)));
    OutRecord { topic: Cow::Owned(topic(group)), key: record.key.clone(), value: record.value.clone(), headers }
}

fn is_ours(header: &Header) -> bool {
    header::ALL.iter().any(|name| header.is(name))
}

/// The next smaller form of a dead letter that the broker refused, from the most complete to the least. A record may be
/// too large as a whole or in one part, and a compacted topic takes no record without a key. The last form has the
/// position of the original as its key.
pub fn reduced(letter: &OutRecord) -> impl Iterator<Item = OutRecord> + use<> {
    const TRIED: [&[&str]; 5] =
        [&["value"], &["headers"], &["key"], &["value", "headers"], &["value", "headers", "key"]];
    let letter = letter.clone();
    TRIED.into_iter().filter_map(move |left_out| {
        let leaves_out = |part| left_out.contains(&part);
        let (ours, theirs): (Vec<Header>, Vec<Header>) = letter.headers.iter().cloned().partition(is_ours);
        let is_the_same =
            letter.value.is_none() && left_out == ["value"] || theirs.is_empty() && left_out == ["headers"];
        let mut headers = if leaves_out("headers") { ours } else { letter.headers.clone() };
        let key = if leaves_out("key") { Some(position(&headers).into_bytes()) } else { letter.key.clone() };
        headers.push(Header::text(header::OMITTED, left_out.join(",")));
        let value = letter.value.clone().filter(|_| !leaves_out("value"));
        (!is_the_same).then(|| OutRecord { topic: letter.topic.clone(), key, value, headers })
    })
}

/// The position of the original, from a dead letter's headers: `<topic>/<partition>/<offset>`.
fn position(headers: &[Header]) -> String {
    let value = |name: &str| headers.iter().find(|h| h.is(name)).and_then(|h| h.value.as_deref()).unwrap_or_default();
    let parts = [header::TOPIC, header::PARTITION, header::OFFSET].map(|name| String::from_utf8_lossy(value(name)));
    parts.join("/")
}

/// The text, cut at a character boundary to at most 1,024 bytes.
pub fn cap(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: Vec<Header>) -> Record {
        Record { topic: "order.events".into(), partition: 3, offset: 42, key: None, value: Some(vec![0xff]), headers }
    }

    #[test]
    fn a_second_failure_replaces_what_the_first_one_added() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let poison = Poison::new(Reason::Permanent, "no");
        let first = letter("order", &record(vec![Header::text("mine", "kept")]), &poison, 1, now);
        let again = Record { headers: first.headers, ..record(vec![]) };
        let second = letter("payment", &again, &Poison::new(Reason::Invalid, "still no"), 2, now);
        assert_eq!(second.headers.len(), 9);
        let value = |name: &str| {
            let found: Vec<_> = second.headers.iter().filter(|h| h.is(name)).collect();
            assert_eq!(found.len(), 1, "{name}");
            String::from_utf8(found[0].value.clone().unwrap()).unwrap()
        };
        assert_eq!(value("mine"), "kept");
        assert_eq!(value("error.type"), "invalid");
        assert_eq!(value("__dlq.errors.group"), "payment");
        assert_eq!(value("attempts"), "2");
        assert_eq!(second.value, Some(vec![0xff]));
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(cap(&"ä".repeat(2000)).len(), MAX_TEXT);
        assert_eq!(cap(&format!("a{}", "ä".repeat(2000))).len(), MAX_TEXT - 1);
    }
}

//! A dead letter as read from its topic: the participant, the event and the reason.

use jiff::Timestamp;
use saga_core::{dead_letter::header, record::Record};

use crate::{
    event::{self, Event, text},
    text::capped,
};

/// Longest reason that is kept, in bytes. Known reasons are short words; a forged one may have any length.
const REASON: usize = 64;

/// A dead letter.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetter {
    /// The consumer group that dead-lettered the event.
    pub(crate) participant: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) attempts: Option<u32>,
    pub(crate) first_failed_at: Option<Timestamp>,
    /// The dead-lettered event, when it is readable.
    pub(crate) event: Option<Event>,
    /// The original record's position.
    pub(crate) topic: String,
    pub(crate) partition: Option<i32>,
    pub(crate) offset: Option<i64>,
}

impl DeadLetter {
    /// Whether this participant wrote it. The group's name may begin with a namespace.
    pub(crate) fn is_of(&self, participant: &str) -> bool {
        let rest = self.participant.strip_suffix(participant);
        rest.is_some_and(|namespace| namespace.is_empty() || namespace.ends_with('.'))
    }

    pub(crate) fn of(record: &Record, written: Option<Timestamp>) -> Self {
        let said = |name| text(record, name);
        let (topic, partition, offset) = (
            said(header::TOPIC).unwrap_or_default(),
            said(header::PARTITION).and_then(|text| text.parse().ok()),
            said(header::OFFSET).and_then(|text| text.parse().ok()),
        );
        // An event without an id is identified by its position.
        let original = Record {
            topic: topic.into(),
            partition: partition.unwrap_or_default(),
            offset: offset.unwrap_or_default(),
            ..record.clone()
        };
        let reason = said(header::REASON).unwrap_or("unknown");
        let by_topic = record.topic.trim_end_matches(".dlq");
        Self {
            participant: capped(said(header::GROUP).unwrap_or(by_topic)),
            reason: reason[..reason.floor_char_boundary(REASON)].to_owned(),
            message: capped(said(header::MESSAGE).unwrap_or_default()),
            attempts: said(header::ATTEMPTS).and_then(|text| text.parse().ok()),
            first_failed_at: said(header::FIRST_FAILED_AT).and_then(|text| text.parse().ok()),
            event: event::read(&original, written).ok(),
            topic: capped(topic),
            partition,
            offset,
        }
    }
}

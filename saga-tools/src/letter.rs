//! What a dead letter says: who gave up on which event, and why.

use jiff::Timestamp;
use saga_core::{dead_letter::header, record::Record};

use crate::{
    event::{self, Event, text},
    text::capped,
};

/// Reasons are words. A longer one is somebody's text, and it is kept for as long as its saga is.
const REASON: usize = 64;

/// A dead letter.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    /// The consumer group that gave up.
    pub(crate) participant: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) attempts: Option<u32>,
    pub(crate) first_failed_at: Option<Timestamp>,
    /// What was given up on, when it can be read.
    pub(crate) event: Option<Event>,
    /// Where that stands, or stood.
    pub(crate) topic: String,
    pub(crate) partition: Option<i32>,
    pub(crate) offset: Option<i64>,
}

impl Letter {
    /// Whether this participant has given up; groups stand in the namespace whose topics are read.
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
        // Where it was read decides the id of an event without one.
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

//! A record as observed on one of the flow's topics.

use std::sync::Arc;

use jiff::Timestamp;
use saga_core::{dead_letter::Poison, record::Record};
use saga_kafka::Stored;
use uuid::Uuid;

use crate::{
    dead_letter::DeadLetter,
    event::{self, Event, is_dead_letter, saga_of},
    text::capped,
};

/// The content of a record.
#[derive(Clone, Debug)]
pub(crate) enum RecordContent {
    Event(Event),
    DeadLetter(DeadLetter),
    /// A record that no participant can read either.
    Unreadable {
        kind: Option<String>,
        poison: Poison,
    },
}

/// An observed record.
#[derive(Clone, Debug)]
pub(crate) struct ObservedRecord {
    pub(crate) content: RecordContent,
    /// The saga's id, from the record's key.
    pub(crate) saga: Option<Uuid>,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) written: Option<Timestamp>,
    /// The data, when requested.
    pub(crate) value: Option<Vec<u8>>,
}

impl ObservedRecord {
    /// Without the data. Everything else is capped, so memory use is bounded.
    pub(crate) fn of(stored: Stored) -> Self {
        Self { value: None, ..Self::with_value(stored) }
    }

    /// With the complete data.
    pub(crate) fn with_value(stored: Stored) -> Self {
        let Stored { record, written } = stored;
        let content = if is_dead_letter(&record) {
            RecordContent::DeadLetter(DeadLetter::of(&record, written))
        } else {
            match event::read(&record, written) {
                Ok(event) => RecordContent::Event(event),
                Err(Poison { reason, message }) => RecordContent::Unreadable {
                    kind: event::kind_of(&record).map(capped),
                    poison: Poison { reason, message: capped(message) },
                },
            }
        };
        let Record { topic, partition, offset, key, value, headers: _ } = record;
        Self { content, saga: saga_of(key.as_deref()), topic, partition, offset, written, value }
    }

    /// The best known time of the record.
    pub(crate) fn at(&self) -> Timestamp {
        match &self.content {
            RecordContent::Event(event) => event.at,
            RecordContent::DeadLetter(dead_letter) => self.written.or(dead_letter.first_failed_at).unwrap_or_default(),
            RecordContent::Unreadable { .. } => self.written.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use saga_core::{dead_letter, envelope::header, record::Header};

    use super::*;

    /// A record whose every field is long.
    fn huge(topic: &str, kinds: usize) -> Stored {
        let long = "ä".repeat(100_000);
        let names = [header::SOURCE, header::CAUSATION_ID, dead_letter::header::REASON, dead_letter::header::MESSAGE];
        let more = [dead_letter::header::GROUP, dead_letter::header::TOPIC, dead_letter::header::PARTITION];
        let mut headers: Vec<Header> =
            names.into_iter().chain(more).map(|name| Header::text(name, long.clone())).collect();
        headers.push(Header::text(header::ID, Uuid::nil().to_string()));
        headers.push(Header::text("ce_".to_owned() + &long, "x"));
        headers.extend((0..kinds).map(|_| Header::text(header::TYPE, long.clone())));
        let key = Some(Uuid::nil().to_string().into_bytes());
        let value = Some(format!(r#"{{"reason": "{long}"}}"#).into_bytes());
        Stored { record: Record { topic: topic.into(), partition: 0, offset: 0, key, value, headers }, written: None }
    }

    #[test]
    fn what_is_kept_is_short_whatever_was_written() {
        for (topic, kinds) in [("order.events", 1), ("order.events", 2), ("order.dlq", 1)] {
            let observed = ObservedRecord::of(huge(topic, kinds));
            match (&observed.content, kinds) {
                (RecordContent::Event(_), 1)
                | (RecordContent::Unreadable { .. }, 2)
                | (RecordContent::DeadLetter(DeadLetter { event: Some(_), .. }), 1) => {}
                (other, _) => panic!("{other:?}"),
            }
            let kept = format!("{observed:?}").len();
            assert!(kept < 16_384, "{kept} of {topic}");
        }
    }

    #[test]
    fn data_is_kept_only_for_those_who_show_it() {
        let stored = huge("order.events", 1);
        assert!(ObservedRecord::of(stored.clone()).value.is_none());
        assert_eq!(ObservedRecord::with_value(stored.clone()).value, stored.record.value);
    }
}

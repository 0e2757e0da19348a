//! A record of the flow's topics, as those see it who look on.

use std::sync::Arc;

use jiff::Timestamp;
use saga_core::{dead_letter::Poison, record::Record};
use saga_kafka::Stored;
use uuid::Uuid;

use crate::{
    event::{self, Event, is_dead_letter, saga_of},
    letter::Letter,
    text::capped,
};

/// What a record is.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Event(Event),
    Letter(Letter),
    /// No participant can read it either.
    Unreadable {
        kind: Option<String>,
        poison: Poison,
    },
}

/// A record that was read.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) what: What,
    /// As the key says.
    pub(crate) saga: Option<Uuid>,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) written: Option<Timestamp>,
    /// Only where it was asked for.
    pub(crate) value: Option<Vec<u8>>,
}

impl Seen {
    /// Without its data: what is kept of a record is short, whatever was written.
    pub(crate) fn of(stored: Stored) -> Self {
        Self { value: None, ..Self::with_value(stored) }
    }

    /// With its data, as long as that is.
    pub(crate) fn with_value(stored: Stored) -> Self {
        let Stored { record, written } = stored;
        let what = if is_dead_letter(&record) {
            What::Letter(Letter::of(&record, written))
        } else {
            match event::read(&record, written) {
                Ok(event) => What::Event(event),
                Err(Poison { reason, message }) => What::Unreadable {
                    kind: event::kind_of(&record).map(capped),
                    poison: Poison { reason, message: capped(message) },
                },
            }
        };
        let Record { topic, partition, offset, key, value, headers: _ } = record;
        Self { what, saga: saga_of(key.as_deref()), topic, partition, offset, written, value }
    }

    /// When it happened, as far as is known.
    pub(crate) fn at(&self) -> Timestamp {
        match &self.what {
            What::Event(event) => event.at,
            What::Letter(letter) => self.written.or(letter.first_failed_at).unwrap_or_default(),
            What::Unreadable { .. } => self.written.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use saga_core::{dead_letter, envelope::header, record::Header};

    use super::*;

    /// A record in which everything is long.
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
            let seen = Seen::of(huge(topic, kinds));
            match (&seen.what, kinds) {
                (What::Event(_), 1)
                | (What::Unreadable { .. }, 2)
                | (What::Letter(Letter { event: Some(_), .. }), 1) => {}
                (other, _) => panic!("{other:?}"),
            }
            let kept = format!("{seen:?}").len();
            assert!(kept < 16_384, "{kept} of {topic}");
        }
    }

    #[test]
    fn data_is_kept_only_for_those_who_show_it() {
        let stored = huge("order.events", 1);
        assert!(Seen::of(stored.clone()).value.is_none());
        assert_eq!(Seen::with_value(stored.clone()).value, stored.record.value);
    }
}

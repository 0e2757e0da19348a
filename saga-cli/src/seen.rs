//! A record of the flow's topics, as those see it who look on.

use std::sync::Arc;

use jiff::Timestamp;
use saga_core::{dead_letter::Poison, envelope::header, record::Record};
use saga_kafka::Stored;
use uuid::Uuid;

use crate::{
    event::{self, Event, is_dead_letter, saga_of, text},
    letter::Letter,
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
    pub(crate) value: Option<Vec<u8>>,
}

impl Seen {
    pub(crate) fn of(stored: Stored) -> Self {
        let Stored { record, written } = stored;
        let what = if is_dead_letter(&record) {
            What::Letter(Letter::of(&record, written))
        } else {
            match event::read(&record, written) {
                Ok(event) => What::Event(event),
                Err(poison) => What::Unreadable { kind: text(&record, header::TYPE).map(str::to_owned), poison },
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

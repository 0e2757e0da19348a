//! One participant under test, on the production runtime: given these events, when this one comes, then these are
//! published.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use super::{MemoryBroker, VirtualClock};
use crate::{
    clock::Clock,
    envelope::{Outgoing, header, seal},
    event::{Event, EventType, SagaId},
    participant::Participant,
    record::{OutRecord, Record},
    runtime::{Handle, Options, Runtime},
    store::Store,
    trace::TraceContext,
};

/// A participant under test. Its handlers run on the same runtime as in production, in virtual time.
///
/// Use it inside `#[tokio::test(start_paused = true)]` with an in-memory store or an in-memory SQLite database; with
/// PostgreSQL, do not pause the time.
pub struct Scenario<S: Store> {
    participant: Option<Participant<S>>,
    store: S,
    broker: MemoryBroker,
    clock: VirtualClock,
    given: Vec<OutRecord>,
}

/// An event that the participant published.
#[derive(Clone, Debug)]
pub struct Published {
    /// Who published it: the participant's name.
    pub source: String,
    /// Its type.
    pub event_type: String,
    /// Its saga.
    pub saga_id: String,
    /// Its data.
    pub data: serde_json::Value,
    /// Whether it is a null compensation.
    pub null_compensation: bool,
    /// Whether it is the event of a compensation at best effort that failed for good.
    pub compensation_failed: bool,
    /// Whether it follows from such a compensation, or is its event.
    pub partly_compensated: bool,
    /// The record.
    pub record: Record,
}

impl Published {
    pub(super) fn of(record: &Record) -> Self {
        let text = |name: &str| {
            let header = record.headers.iter().find(|h| h.is(name));
            header.and_then(|h| h.value.clone()).and_then(|v| String::from_utf8(v).ok()).unwrap_or_default()
        };
        Self {
            source: text(header::SOURCE).trim_start_matches('/').to_owned(),
            event_type: text(header::TYPE),
            saga_id: record.key.clone().and_then(|key| String::from_utf8(key).ok()).unwrap_or_default(),
            data: record.value.as_deref().and_then(|v| serde_json::from_slice(v).ok()).unwrap_or_default(),
            null_compensation: text(header::NULL_COMPENSATION) == "true",
            compensation_failed: text(header::COMPENSATION_FAILED) == "true",
            partly_compensated: text(header::PARTLY_COMPENSATED) == "true",
            record: record.clone(),
        }
    }

    /// The event's data, decoded as this type; none when the event has another type.
    pub fn read<E: Event>(&self) -> Option<E> {
        (self.event_type == E::NAME).then(|| serde_json::from_value(self.data.clone()).ok()).flatten()
    }
}

impl<S: Store> Scenario<S> {
    /// A participant on this database. Needs a tokio runtime.
    pub fn new(participant: Participant<S>, store: S) -> Self {
        let (broker, clock) = (MemoryBroker::new(1), VirtualClock::start());
        Self { participant: Some(participant), store, broker, clock, given: Vec::new() }
    }

    /// An event that happened before.
    #[must_use]
    pub fn given<E: Event>(mut self, event: &E) -> Self {
        self.given.push(record(event, Uuid::now_v7(), self.clock.now()));
        self
    }

    /// A record of any kind that came before.
    #[must_use]
    pub fn given_record(mut self, record: OutRecord) -> Self {
        self.given.push(record);
        self
    }

    /// Publishes the event under test; returns what the participant published because of it.
    pub async fn when<E: Event>(self, event: &E) -> Vec<Published> {
        let last = record(event, Uuid::now_v7(), self.clock.now());
        self.when_record(last).await
    }

    /// Publishes the record under test; returns what the participant published because of it.
    pub async fn when_record(mut self, last: OutRecord) -> Vec<Published> {
        let Some(participant) = self.participant.take() else { return Vec::new() };
        let name = participant.name();
        let declaration = participant.declaration();
        let topics: BTreeSet<String> =
            declaration.published_topics().into_iter().chain([crate::dead_letter::topic(name)]).collect();
        let handle = Handle::new(name, self.store.clone(), self.broker.producer(), self.clock);
        let consumer = self.broker.subscribe(name, &declaration.consumed_topics());
        let runtime = Runtime::new(participant, handle, Options::default());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let run = runtime.run(consumer, async {
            let _ = stopped.await;
        });
        let drive = async {
            let mut earlier = 0;
            for record in std::mem::take(&mut self.given) {
                self.broker.append(record);
                self.settle(name).await;
                earlier = self.published(&topics).len();
            }
            self.broker.append(last);
            self.settle(name).await;
            drop(stop);
            earlier
        };
        let (_, earlier) = futures::join!(run, drive);
        self.published(&topics).split_off(earlier)
    }

    /// The participant's own events; the scenario's events have another source.
    fn published(&self, topics: &BTreeSet<String>) -> Vec<Published> {
        let ours = |record: &Record| !record.headers.iter().any(|h| h.is(SCENARIO)) || record.topic.ends_with(".dlq");
        let records = topics.iter().flat_map(|topic| self.broker.records(topic));
        records.filter(ours).map(|record| Published::of(&record)).collect()
    }

    /// Waits until the participant has handled its events and no parked saga waits for another attempt.
    async fn settle(&self, group: &str) {
        loop {
            self.clock.sleep(Duration::from_millis(20)).await;
            let parked = self.store.summary().await.map_or(0, |summary| summary.parked_sagas);
            if self.broker.is_caught_up(group) && parked == 0 {
                return;
            }
        }
    }
}

/// Marks the scenario's own events, so that they are not mistaken for the participant's.
const SCENARIO: &str = "x-scenario";

pub(super) fn record<E: Event>(event: &E, id: Uuid, time: Timestamp) -> OutRecord {
    let (saga_id, trace): (SagaId, _) = (Event::saga_id(event), TraceContext::default());
    let outgoing =
        Outgoing { id, source: "scenario", saga_id, causation_id: None, time, trace: &trace, null_compensation: false };
    let mut record = seal(EventType::of::<E>(), serde_json::to_vec(event).unwrap_or_default(), &outgoing);
    record.headers.push(crate::record::Header::text(SCENARIO, "given"));
    record
}

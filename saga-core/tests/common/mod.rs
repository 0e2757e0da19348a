//! A participant that runs in memory and in virtual time during a test.

#![allow(dead_code, clippy::unwrap_used, reason = "each test program uses a part of it; what cannot go on says where")]

pub(crate) mod trip;

use std::time::Duration;

use saga_core::{
    Event, Participant,
    clock::Clock,
    envelope::{Outgoing, header, seal},
    event::EventType,
    record::{OutRecord, Record},
    runtime::{Handle, Health, Metrics, Options, Runtime},
    testing::{MemoryBroker, MemoryStore, VirtualClock},
    trace::TraceContext,
    transport::Producer,
};
use uuid::Uuid;

pub(crate) struct World {
    pub(crate) broker: MemoryBroker,
    pub(crate) store: MemoryStore,
    pub(crate) clock: VirtualClock,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
}

impl World {
    /// Runs the participant until the test is over.
    pub(crate) async fn with(participant: Participant<MemoryStore>, test: impl AsyncFnOnce(&Self)) {
        Self::publishing(participant, MemoryBroker::producer, test).await;
    }

    /// The same, with the test's own producer.
    pub(crate) async fn publishing<P: Producer>(
        participant: Participant<MemoryStore>,
        producer: impl FnOnce(&MemoryBroker) -> P,
        test: impl AsyncFnOnce(&Self),
    ) {
        let (broker, store, clock) = (MemoryBroker::new(1), MemoryStore::default(), VirtualClock::start());
        let name = participant.name();
        let handle = Handle::new(name, store.clone(), producer(&broker), clock);
        let consumer = broker.subscribe(name, &participant.declaration().consumed_topics());
        let (metrics, health) = (handle.metrics().clone(), handle.health().clone());
        let world = Self { broker, store, clock, metrics, health };
        let run = Runtime::new(participant, handle, Options::default()).run(consumer, std::future::pending());
        tokio::select! {
            result = run => panic!("{result:?}"),
            () = test(&world) => {}
        }
    }

    pub(crate) fn publish<E: Event>(&self, event: &E) {
        self.broker.append(self.record(event));
    }

    /// The record of this event.
    pub(crate) fn record<E: Event>(&self, event: &E) -> OutRecord {
        record(event, self.clock)
    }

    /// The header of each record of a topic; empty where it is missing.
    pub(crate) fn headers(&self, topic: &str, name: &str) -> Vec<String> {
        let of = |record: &Record| {
            let header = record.headers.iter().find(|h| h.is(name)).and_then(|h| h.value.clone());
            String::from_utf8(header.unwrap_or_default()).unwrap()
        };
        self.broker.records(topic).iter().map(of).collect()
    }

    pub(crate) fn types(&self, topic: &str) -> Vec<String> {
        self.headers(topic, header::TYPE)
    }

    pub(crate) async fn eventually(&self, what: &str, holds: impl AsyncFnMut() -> bool) {
        eventually(self.clock, what, holds).await;
    }
}

/// An event from a program that is not a participant.
pub(crate) fn record<E: Event>(event: &E, clock: VirtualClock) -> OutRecord {
    let outgoing = Outgoing {
        id: Uuid::now_v7(),
        source: "test",
        saga_id: Event::saga_id(event),
        causation_id: None,
        time: clock.now(),
        trace: &TraceContext::default(),
        null_compensation: false,
    };
    seal(EventType::of::<E>(), serde_json::to_vec(event).unwrap(), &outgoing)
}

pub(crate) async fn eventually(clock: VirtualClock, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..20_000 {
        if holds().await {
            return;
        }
        clock.sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 200 s of virtual time: {what}");
}

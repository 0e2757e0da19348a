//! The runtime under faults, in memory and virtual time: a database that fails at every line of a transaction, a broker that does
//! not acknowledge, handlers that fail or panic, a process that dies between an effect and its commit, members that come and go.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod best_effort;
#[path = "../common/mod.rs"]
mod common;
mod dead_letters;
mod deadlines;
mod effects;
mod joins;
mod publishing;
mod transactions;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{events::events, trip::Expired};
use futures::future::BoxFuture;
use saga_core::{
    Event, Outcome, Participant, SagaId, Step, StepError, StepResult,
    barrier::{Mark, Op},
    clock::Clock,
    dead_letter::Reason,
    envelope::{Outgoing, header, seal},
    event::EventType,
    handler::{Call, Cx},
    record::{Header, OutRecord},
    runtime::{Handle, Options, Runtime},
    store::{Changes, OutboxRow, Store},
    testing::{Fault, MemoryBroker, MemoryStore, VirtualClock},
    trace::TraceContext,
    transport::{Producer, PublishError},
};
use uuid::Uuid;

events! {
    Booked = "trip.booked" on "trip.events" { mood: String }
    Cancelled = "trip.cancelled" on "trip.events" {}
    Taken = "seat.taken" on "seat.events" {}
    Freed = "seat.freed" on "seat.events" {}
}

impl From<Cancelled> for Freed {
    fn from(why: Cancelled) -> Self {
        Self { id: why.id }
    }
}

async fn take(cx: &mut Cx<'_, MemoryStore>, trips: Vec<Booked>) -> Result<Vec<Outcome<Taken>>, StepError> {
    if trips.iter().any(|trip| trip.mood == "panic") {
        panic!("a handler's defect");
    }
    if trips.iter().any(|trip| trip.mood == "fail") {
        return Err(StepError::permanent("no"));
    }
    let taken: u32 = cx.tx().get("taken").unwrap_or(0);
    cx.tx().put("taken", &(taken + u32::try_from(trips.len()).unwrap()));
    Ok(trips.into_iter().map(|trip| Outcome::Success(Taken { id: trip.id })).collect())
}

async fn free(cx: &mut Cx<'_, MemoryStore>, why: Cancelled) -> Result<Freed, StepError> {
    let freed: u32 = cx.tx().get("freed").unwrap_or(0);
    cx.tx().put("freed", &(freed + 1));
    Ok(why.into())
}

fn seats() -> Participant<MemoryStore> {
    Participant::named("seat").step(Step::new("take", take).undone_by(free))
}

/// A small world: one broker, one database, and participants that come and go.
struct World {
    broker: MemoryBroker,
    store: MemoryStore,
    clock: VirtualClock,
}

impl World {
    fn new(partitions: i32) -> Self {
        Self { broker: MemoryBroker::new(partitions), store: MemoryStore::default(), clock: VirtualClock::start() }
    }

    fn start(&self, participant: Participant<MemoryStore>) -> Member {
        let handle = Handle::new(participant.name(), self.store.clone(), self.broker.producer(), self.clock);
        let topics = participant.declaration().consumed_topics();
        let consumer = self.broker.subscribe(participant.name(), &topics);
        let (metrics, health) = (handle.metrics().clone(), handle.health().clone());
        let runtime = Runtime::new(participant, handle, Options::default());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::task::spawn_local(runtime.run(consumer, async {
            let _ = stopped.await;
        }));
        Member { stop, task, metrics, health }
    }

    fn publish<E: Event>(&self, event: &E) {
        self.broker.append(record(event, Uuid::now_v7(), self.clock));
    }

    async fn eventually(&self, what: &str, holds: impl AsyncFnMut() -> bool) {
        common::eventually(self.clock, what, holds).await;
    }

    async fn caught_up(&self) {
        self.eventually("everything is handled and committed", async || {
            let summary = self.store.summary().await.unwrap();
            self.broker.is_caught_up("seat") && summary.outbox_pending == 0 && summary.parked_sagas == 0
        })
        .await;
    }

    fn types(&self, topic: &str) -> Vec<String> {
        let of = |record: &saga_core::record::Record| {
            let header = record.headers.iter().find(|h| h.is(header::TYPE)).and_then(|h| h.value.clone());
            String::from_utf8(header.unwrap_or_default()).unwrap()
        };
        self.broker.records(topic).iter().map(of).collect()
    }
}

struct Member {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), saga_core::runtime::RunError>>,
    metrics: saga_core::runtime::Metrics,
    health: saga_core::runtime::Health,
}

impl Member {
    async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap().unwrap();
    }

    /// Nothing is flushed, committed or told.
    async fn die(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn record<E: Event>(event: &E, id: Uuid, clock: VirtualClock) -> OutRecord {
    let trace = TraceContext::default();
    let outgoing = Outgoing {
        id,
        source: "test",
        saga_id: Event::saga_id(event),
        causation_id: None,
        time: clock.now(),
        trace: &trace,
        null_compensation: false,
    };
    seal(EventType::of::<E>(), serde_json::to_vec(event).unwrap(), &outgoing)
}

fn booked(mood: &str) -> Booked {
    Booked { id: Uuid::now_v7(), mood: mood.to_owned() }
}

/// Takes records and never acknowledges one.
#[derive(Clone, Default)]
struct Mute(Arc<Mutex<Vec<OutRecord>>>);

impl Mute {
    fn published(&self, row: &OutboxRow) -> bool {
        self.0.lock().unwrap().contains(&row.record)
    }
}

impl Producer for Mute {
    fn publish(&self, records: Vec<OutRecord>) -> BoxFuture<'static, Vec<Result<(), PublishError>>> {
        self.0.lock().unwrap().extend(records);
        Box::pin(std::future::pending())
    }
}

async fn local(test: impl AsyncFnOnce()) {
    tokio::task::LocalSet::new().run_until(test()).await;
}

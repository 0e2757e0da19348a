//! The outbox against a broker that is slow, full, forgetful or without a leader for some sagas: what goes out, in which order, and
//! who has to wait for it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "../common/mod.rs"]
mod common;
mod kafka;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use saga_core::{
    Event, Outcome, Participant, SagaId, Step, StepResult,
    clock::Clock,
    handler::Cx,
    record::OutRecord,
    runtime::{Handle, Health, Options, Outbox, Runtime},
    store::{Changes, OutboxRow, Store},
    testing::{Fault, MemoryBroker, MemoryStore, VirtualClock},
    trace::TraceContext,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use uuid::Uuid;

use self::{
    common::trip::{Booked, Taken},
    kafka::{Answer, Kafka},
};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.expired", topic = "seat.events", saga = "id")]
struct Expired {
    id: Uuid,
}

/// Takes a seat, and gives it up after a minute.
fn seats() -> Participant<MemoryStore> {
    async fn take(cx: &mut Cx<'_, MemoryStore>, trip: Booked) -> StepResult<Taken> {
        let taken: u32 = cx.tx().get("taken").unwrap_or(0);
        cx.tx().put("taken", &(taken + 1));
        Ok(Outcome::Success(Taken { id: trip.id }))
    }
    let expired = async |_: &mut Cx<'_, MemoryStore>, sagas: Vec<SagaId>| {
        Ok(sagas.into_iter().map(|id| Outcome::Success(Expired { id: id.as_uuid() })).collect())
    };
    Participant::named("seat").step(Step::new("take", take).deadline(Duration::from_secs(60), expired))
}

type Relay = Outbox<MemoryStore, Kafka, VirtualClock>;

/// A database and a broker, and processes that come and go.
struct World {
    store: MemoryStore,
    clock: VirtualClock,
    /// What participants consume.
    incoming: MemoryBroker,
    kafka: Kafka,
}

/// A process. It dies with this.
struct Process {
    outbox: Relay,
    health: Health,
    task: AbortHandle,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl World {
    fn new(judge: impl FnMut(&OutRecord) -> Answer + Send + 'static) -> Self {
        let (store, clock) = (MemoryStore::default(), VirtualClock::start());
        Self { store, clock, incoming: MemoryBroker::new(4), kafka: Kafka::that(judge) }
    }

    fn start(&self) -> Process {
        let handle = Handle::new("seat", self.store.clone(), self.kafka.clone(), self.clock);
        let (outbox, health) = (handle.outbox(), handle.health().clone());
        let consumer = self.incoming.subscribe("seat", &["trip.events".to_owned()]);
        let runtime = Runtime::new(seats(), handle, Options::default());
        let task = tokio::task::spawn_local(runtime.run(consumer, std::future::pending())).abort_handle();
        Process { outbox, health, task }
    }

    fn book(&self, id: Uuid) {
        self.incoming.append(common::record(&Booked { id }, self.clock));
    }

    /// Events that a process commits and does not publish yet.
    async fn commit_all(&self, process: &Process, ids: &[Uuid]) -> Vec<OutboxRow> {
        let row = |id: &Uuid| process.outbox.row(&Taken { id: *id }, &TraceContext::default()).unwrap();
        let rows: Vec<OutboxRow> = ids.iter().map(row).collect();
        let (tx, _) = self.store.begin(&[], Duration::MAX).await.unwrap();
        self.store.commit(tx, Changes { outbox: rows.clone(), ..Changes::default() }).await.unwrap();
        rows
    }

    async fn commit(&self, process: &Process, id: Uuid) -> OutboxRow {
        self.commit_all(process, &[id]).await.remove(0)
    }

    /// An event as an HTTP request publishes one.
    async fn publish(&self, process: &Process, id: Uuid) -> OutboxRow {
        let row = self.commit(process, id).await;
        process.outbox.committed(vec![row.clone()]);
        row
    }

    async fn eventually(&self, what: &str, holds: impl AsyncFnMut() -> bool) {
        common::eventually(self.clock, what, holds).await;
    }

    async fn pending(&self) -> u64 {
        self.store.summary().await.unwrap().outbox_pending
    }
}

async fn local(test: impl AsyncFnOnce()) {
    tokio::task::LocalSet::new().run_until(test()).await;
}

/// A fourth of all sagas are in the partition that is in trouble.
fn in_trouble(record: &OutRecord) -> bool {
    record.key.as_ref().unwrap().last().unwrap().is_multiple_of(4)
}

fn ids(number: usize) -> Vec<Uuid> {
    std::iter::repeat_with(Uuid::new_v4).take(number).collect()
}

fn is_in_trouble(id: &Uuid) -> bool {
    id.to_string().as_bytes().last().unwrap().is_multiple_of(4)
}

#[tokio::test(start_paused = true)]
async fn a_partition_without_a_leader_delays_only_its_own_events() {
    local(async || {
        let world = World::new(|record| if in_trouble(record) { Answer::Later } else { Answer::Written });
        // Left behind by a process that died: whoever takes its partitions over finds it first.
        let dead = world.start();
        let left = world.commit(&dead, ids(50).into_iter().find(is_in_trouble).unwrap()).await;
        drop(dead);
        let (first, trips) = (world.start(), ids(40));
        trips.iter().for_each(|id| world.book(*id));
        let stuck = trips.iter().filter(|id| is_in_trouble(id)).count() as u64 + 1;
        world.eventually("the others are out", async || world.pending().await == stuck).await;
        assert_eq!(world.store.get::<u32>("taken").await, Some(40), "and everybody was served");
        // Partitions go to another process and come back, and deadlines pass.
        let second = world.start();
        let more = ids(20);
        more.iter().for_each(|id| world.book(*id));
        world.eventually("they are served", async || world.store.get::<u32>("taken").await == Some(60)).await;
        drop(first);
        world.clock.sleep(Duration::from_secs(90)).await;
        let seen = world.kafka.seen();
        for id in trips.iter().chain(&more).filter(|id| !is_in_trouble(id)) {
            assert_eq!(seen[id.to_string().as_bytes()].len(), 2, "taken, then expired");
        }
        world.kafka.now(|_| Answer::Written);
        world.kafka.release();
        world.eventually("nothing is left", async || world.pending().await == 0).await;
        assert!(world.kafka.has(&left));
        assert_eq!(world.kafka.seen().values().map(Vec::len).sum::<usize>(), 1 + 2 * 60);
        drop(second);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_broker_refuses_is_reported_until_it_is_acknowledged() {
    local(async || {
        let world = World::new(|record| if in_trouble(record) { Answer::Refused } else { Answer::Written });
        let process = world.start();
        let (refused, taken) = (ids(50).into_iter().find(is_in_trouble).unwrap(), Uuid::from_u128(1));
        let row = world.publish(&process, refused).await;
        let told = || process.health.waiting_for().iter().any(|what| what.contains("too large"));
        world.eventually("it is told", async || told()).await;
        world.publish(&process, taken).await;
        // Through several attempts, a minute apart each, and whatever others get done.
        for _ in 0..150 {
            world.clock.sleep(Duration::from_secs(1)).await;
            assert!(told());
        }
        world.kafka.now(|_| Answer::Written);
        world.eventually("it is taken", async || world.kafka.has(&row)).await;
        world.eventually("all is well", async || process.health.waiting_for().is_empty()).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_whose_queue_is_full_delays_only_its_own_events() {
    local(async || {
        let world = World::new(|record| if in_trouble(record) { Answer::Full } else { Answer::Written });
        let process = world.start();
        let trips = ids(1_000);
        process.outbox.committed(world.commit_all(&process, &trips).await);
        let stuck = trips.iter().filter(|id| is_in_trouble(id)).count() as u64;
        world.eventually("the others are out", async || world.pending().await == stuck).await;
        // What waits is tried again, but not all the time.
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = tries.clone();
        world.kafka.now(move |record| {
            counted.fetch_add(1, Ordering::Relaxed);
            if in_trouble(record) { Answer::Full } else { Answer::Written }
        });
        world.clock.sleep(Duration::from_secs(30)).await;
        let tries = tries.load(Ordering::Relaxed);
        assert!((1..40 * usize::try_from(stuck).unwrap()).contains(&tries), "{tries}");
        // A row that a crash left behind all of these is found nevertheless.
        let lost = world.commit(&process, ids(50).into_iter().find(|id| !is_in_trouble(id)).unwrap()).await;
        world.eventually("it is published", async || world.kafka.has(&lost)).await;
        world.kafka.now(|_| Answer::Written);
        world.eventually("nothing is left", async || world.pending().await == 0).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn while_the_broker_is_away_the_producer_gets_a_bounded_number_of_rows() {
    local(async || {
        let world = World::new(|_| Answer::Later);
        let process = world.start();
        process.outbox.committed(world.commit_all(&process, &ids(6_000)).await);
        world.clock.sleep(Duration::from_secs(60)).await;
        assert_eq!(world.kafka.waiting(), 2_000);
        world.kafka.now(|_| Answer::Written);
        world.kafka.release();
        world.eventually("nothing is left", async || world.pending().await == 0).await;
        assert_eq!(world.kafka.seen().len(), 6_000);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_acknowledgement_stops_direct_publishing_only_until_the_next_sweep() {
    local(async || {
        let world = World::new(|_| Answer::Written);
        let process = world.start();
        world.store.inject([Fault::CommitAnswer]);
        world.book(Uuid::new_v4());
        world.eventually("its answer is lost", async || world.store.get::<u32>("taken").await == Some(1)).await;
        // Somebody commits all the time.
        for _ in 0..300 {
            world.publish(&process, Uuid::new_v4()).await;
            world.clock.sleep(Duration::from_millis(1)).await;
        }
        // Whoever has to look at the table to publish cannot any more.
        world.store.inject([Fault::Read; 100]);
        let row = world.publish(&process, Uuid::new_v4()).await;
        world.clock.sleep(Duration::from_millis(10)).await;
        assert!(world.kafka.has(&row));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_old_owners_events_are_published_before_the_new_owners() {
    local(async || {
        let world = World::new(|_| Answer::Later);
        let (old, id) = (world.start(), Uuid::new_v4());
        let left = world.commit(&old, id).await;
        drop(old);
        let _new = world.start();
        world.book(id);
        world.eventually("it is handled", async || world.store.get::<u32>("taken").await == Some(1)).await;
        world.kafka.now(|_| Answer::Written);
        world.kafka.release();
        world.eventually("both are out", async || world.pending().await == 0).await;
        let seen = &world.kafka.seen()[id.to_string().as_bytes()];
        assert_eq!((seen.len(), &seen[0]), (2, &left.id.to_string().into_bytes()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_event_overtakes_an_earlier_one_of_its_saga_whatever_the_broker_answers() {
    for seed in 1..=8_u64 {
        local(async || {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let world = World::new(move |_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                match (random >> 40) % 8 {
                    0 => Answer::Full,
                    1 => Answer::Lost,
                    2 => Answer::Forgotten,
                    3 | 4 => Answer::Later,
                    _ => Answer::Written,
                }
            });
            let (sagas, mut written) = (ids(6), BTreeMap::<Vec<u8>, Vec<Vec<u8>>>::new());
            let mut note = |row: OutboxRow| {
                let saga = row.saga_id.to_string().into_bytes();
                written.entry(saga).or_default().push(row.id.to_string().into_bytes());
            };
            let dead = world.start();
            world.commit_all(&dead, &sagas).await.into_iter().for_each(&mut note);
            world.commit_all(&dead, &sagas).await.into_iter().for_each(&mut note);
            drop(dead);
            // Two processes look through the same table.
            let (one, two) = (world.start(), world.start());
            world.clock.sleep(Duration::from_millis(seed * 3)).await;
            for round in 0..20_u64 {
                for id in &sagas {
                    note(world.publish(&one, *id).await);
                }
                world.clock.sleep(Duration::from_millis((seed * 37 + round * 61) % 900)).await;
                if round % 3 == 0 {
                    world.kafka.release();
                }
            }
            world.kafka.now(|_| Answer::Written);
            world.kafka.release();
            world.eventually("nothing is left", async || world.pending().await == 0).await;
            drop((one, two));
            assert_eq!(world.kafka.seen(), written, "seed {seed}");
        })
        .await;
    }
}

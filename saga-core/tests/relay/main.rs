//! The outbox against a broker that is slow, full, loses acknowledgements or has no leader for some sagas: which events
//! are published, in which order, and which sagas wait.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod broker;
#[path = "../common/mod.rs"]
mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use saga_core::{
    Outcome, Participant, SagaId, Step, StepResult,
    clock::Clock,
    handler::Cx,
    record::OutRecord,
    runtime::{Handle, Health, Options, Outbox, Runtime},
    store::{Changes, OutboxRow, Store},
    testing::{Fault, MemoryBroker, MemoryStore, VirtualClock},
    trace::TraceContext,
};
use tokio::task::AbortHandle;
use uuid::Uuid;

use self::{
    broker::{Reaction, ScriptedBroker},
    common::trip::{Booked, Taken},
};
use common::trip::Expired;

/// Takes a seat, and releases it after a minute.
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

type Relay = Outbox<MemoryStore, ScriptedBroker, VirtualClock>;

/// A database, a broker, and processes that start and stop.
struct World {
    store: MemoryStore,
    clock: VirtualClock,
    /// The broker that participants consume from.
    incoming: MemoryBroker,
    broker: ScriptedBroker,
}

/// A process. Dropping it kills the process.
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
    fn new(script: impl FnMut(&OutRecord) -> Reaction + Send + 'static) -> Self {
        let (store, clock) = (MemoryStore::default(), VirtualClock::start());
        Self { store, clock, incoming: MemoryBroker::new(4), broker: ScriptedBroker::that(script) }
    }

    fn start(&self) -> Process {
        let handle = Handle::new("seat", self.store.clone(), self.broker.clone(), self.clock);
        let (outbox, health) = (handle.outbox(), handle.health().clone());
        let consumer = self.incoming.subscribe("seat", &["trip.events".to_owned()]);
        let runtime = Runtime::new(seats(), handle, Options::default());
        let task = tokio::task::spawn_local(runtime.run(consumer, std::future::pending())).abort_handle();
        Process { outbox, health, task }
    }

    fn book(&self, id: Uuid) {
        self.incoming.append(common::record(&Booked { id }, self.clock));
    }

    /// Events that a process commits and has not published yet.
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

    /// Several events of one saga in one transaction, as of a step that forks.
    async fn publish_together(&self, process: &Process, id: Uuid, several: usize) -> Vec<OutboxRow> {
        let rows = self.commit_all(process, &vec![id; several]).await;
        process.outbox.committed(rows.clone());
        rows
    }

    /// An event from an HTTP request.
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

/// A quarter of all sagas are in the partition without a leader.
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
        let world = World::new(|record| if in_trouble(record) { Reaction::Later } else { Reaction::Written });
        // Left behind by a process that died: the next owner of its partitions finds these rows first.
        let dead = world.start();
        let left = world.commit(&dead, ids(50).into_iter().find(is_in_trouble).unwrap()).await;
        drop(dead);
        let (first, trips) = (world.start(), ids(40));
        trips.iter().for_each(|id| world.book(*id));
        let delayed = trips.iter().filter(|id| is_in_trouble(id)).count() as u64 + 1;
        world.eventually("the others are published", async || world.pending().await == delayed).await;
        assert_eq!(world.store.get::<u32>("taken").await, Some(40), "and every saga was handled");
        // Partitions go to another process and come back, and deadlines pass.
        let second = world.start();
        let more = ids(20);
        more.iter().for_each(|id| world.book(*id));
        world.eventually("they are handled", async || world.store.get::<u32>("taken").await == Some(60)).await;
        drop(first);
        world.clock.sleep(Duration::from_secs(90)).await;
        let seen = world.broker.seen();
        for id in trips.iter().chain(&more).filter(|id| !is_in_trouble(id)) {
            assert_eq!(seen[id.to_string().as_bytes()].len(), 2, "taken, then expired");
        }
        world.broker.now(|_| Reaction::Written);
        world.broker.release();
        world.eventually("nothing is left", async || world.pending().await == 0).await;
        assert!(world.broker.has(&left));
        assert_eq!(world.broker.seen().values().map(Vec::len).sum::<usize>(), 1 + 2 * 60);
        drop(second);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_broker_refuses_is_reported_until_it_is_acknowledged() {
    local(async || {
        let world = World::new(|record| if in_trouble(record) { Reaction::Refused } else { Reaction::Written });
        let process = world.start();
        let (refused, taken) = (ids(50).into_iter().find(is_in_trouble).unwrap(), Uuid::from_u128(1));
        let row = world.publish(&process, refused).await;
        let reported = || process.health.waiting_for().iter().any(|what| what.contains("too large"));
        world.eventually("it is reported", async || reported()).await;
        world.publish(&process, taken).await;
        // Through several attempts, a minute apart each, while other events are published.
        for _ in 0..150 {
            world.clock.sleep(Duration::from_secs(1)).await;
            assert!(reported());
        }
        world.broker.now(|_| Reaction::Written);
        world.eventually("it is acknowledged", async || world.broker.has(&row)).await;
        world.eventually("all is well", async || process.health.waiting_for().is_empty()).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_whose_queue_is_full_delays_only_its_own_events() {
    local(async || {
        let world = World::new(|record| if in_trouble(record) { Reaction::Full } else { Reaction::Written });
        let process = world.start();
        let trips = ids(1_000);
        process.outbox.committed(world.commit_all(&process, &trips).await);
        let delayed = trips.iter().filter(|id| is_in_trouble(id)).count() as u64;
        world.eventually("the others are published", async || world.pending().await == delayed).await;
        // The waiting rows are tried again, but not continuously.
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = tries.clone();
        world.broker.now(move |record| {
            counted.fetch_add(1, Ordering::Relaxed);
            if in_trouble(record) { Reaction::Full } else { Reaction::Written }
        });
        world.clock.sleep(Duration::from_secs(30)).await;
        let tries = tries.load(Ordering::Relaxed);
        assert!((1..40 * usize::try_from(delayed).unwrap()).contains(&tries), "{tries}");
        // A row that a crash left behind all of these is found as well.
        let lost = world.commit(&process, ids(50).into_iter().find(|id| !is_in_trouble(id)).unwrap()).await;
        world.eventually("it is published", async || world.broker.has(&lost)).await;
        world.broker.now(|_| Reaction::Written);
        world.eventually("nothing is left", async || world.pending().await == 0).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn while_the_broker_is_away_the_producer_gets_a_bounded_number_of_rows() {
    local(async || {
        let world = World::new(|_| Reaction::Later);
        let process = world.start();
        process.outbox.committed(world.commit_all(&process, &ids(6_000)).await);
        world.clock.sleep(Duration::from_secs(60)).await;
        assert_eq!(world.broker.waiting(), 2_000);
        world.broker.now(|_| Reaction::Written);
        world.broker.release();
        world.eventually("nothing is left", async || world.pending().await == 0).await;
        assert_eq!(world.broker.seen().len(), 6_000);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_acknowledgement_stops_direct_publishing_only_until_the_next_sweep() {
    local(async || {
        let world = World::new(|_| Reaction::Written);
        let process = world.start();
        world.store.inject([Fault::CommitAnswer]);
        world.book(Uuid::new_v4());
        world
            .eventually("its acknowledgement is lost", async || world.store.get::<u32>("taken").await == Some(1))
            .await;
        // Other events are committed all the time.
        for _ in 0..300 {
            world.publish(&process, Uuid::new_v4()).await;
            world.clock.sleep(Duration::from_millis(1)).await;
        }
        // Publishing through a sweep is impossible from here on.
        world.store.inject([Fault::Read; 100]);
        let row = world.publish(&process, Uuid::new_v4()).await;
        world.clock.sleep(Duration::from_millis(10)).await;
        assert!(world.broker.has(&row));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_that_a_step_publishes_at_once_follow_each_other_without_a_sweep() {
    local(async || {
        let world = World::new(|_| Reaction::Written);
        let process = world.start();
        let first = world.publish(&process, Uuid::new_v4()).await;
        world.eventually("the sweep at the start has passed", async || world.broker.has(&first)).await;
        world.clock.sleep(Duration::from_millis(100)).await;
        // Publishing through a sweep is impossible from here on.
        world.store.inject([Fault::Read; 100]);
        let id = Uuid::new_v4();
        let rows = world.publish_together(&process, id, 3).await;
        world.clock.sleep(Duration::from_millis(10)).await;
        let published: Vec<Vec<u8>> = rows.iter().map(|row| row.id.to_string().into_bytes()).collect();
        assert_eq!(world.broker.seen().get(id.to_string().as_bytes()), Some(&published));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_not_acknowledged_is_not_overtaken_by_those_published_with_it() {
    for reaction in [Reaction::Full, Reaction::Lost, Reaction::Later] {
        local(async || {
            let world = World::new(|_| Reaction::Written);
            let process = world.start();
            let first = world.publish(&process, Uuid::new_v4()).await;
            world.eventually("the sweep at the start has passed", async || world.broker.has(&first)).await;
            world.clock.sleep(Duration::from_millis(100)).await;
            let mut tries = 0;
            world.broker.now(move |_| {
                tries += 1;
                if tries == 1 { reaction } else { Reaction::Written }
            });
            let id = Uuid::new_v4();
            let rows = world.publish_together(&process, id, 3).await;
            world.clock.sleep(Duration::from_millis(10)).await;
            world.broker.release();
            world.eventually("nothing is left", async || world.pending().await == 0).await;
            let published: Vec<Vec<u8>> = rows.iter().map(|row| row.id.to_string().into_bytes()).collect();
            assert_eq!(world.broker.seen().get(id.to_string().as_bytes()), Some(&published), "{reaction:?}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_old_owners_events_are_published_before_the_new_owners() {
    local(async || {
        let world = World::new(|_| Reaction::Later);
        let (old, id) = (world.start(), Uuid::new_v4());
        let left = world.commit(&old, id).await;
        drop(old);
        let _new = world.start();
        world.book(id);
        world.eventually("it is handled", async || world.store.get::<u32>("taken").await == Some(1)).await;
        world.broker.now(|_| Reaction::Written);
        world.broker.release();
        world.eventually("both are published", async || world.pending().await == 0).await;
        let seen = &world.broker.seen()[id.to_string().as_bytes()];
        assert_eq!((seen.len(), &seen[0]), (2, &left.id.to_string().into_bytes()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_event_overtakes_an_earlier_one_of_its_saga_whatever_the_broker_does() {
    for seed in 1..=8_u64 {
        local(async || {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let world = World::new(move |_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                match (random >> 40) % 8 {
                    0 => Reaction::Full,
                    1 => Reaction::Lost,
                    2 => Reaction::Forgotten,
                    3 | 4 => Reaction::Later,
                    _ => Reaction::Written,
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
            // Two processes sweep the same table.
            let (one, two) = (world.start(), world.start());
            world.clock.sleep(Duration::from_millis(seed * 3)).await;
            for round in 0..20_u64 {
                for id in &sagas {
                    note(world.publish(&one, *id).await);
                    if round % 3 == 1 {
                        world.publish_together(&one, *id, 3).await.into_iter().for_each(&mut note);
                    }
                }
                world.clock.sleep(Duration::from_millis((seed * 37 + round * 61) % 900)).await;
                if round % 3 == 0 {
                    world.broker.release();
                }
            }
            world.broker.now(|_| Reaction::Written);
            world.broker.release();
            world.eventually("nothing is left", async || world.pending().await == 0).await;
            drop((one, two));
            assert_eq!(world.broker.seen(), written, "seed {seed}");
        })
        .await;
    }
}

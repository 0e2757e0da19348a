//! The runtime under faults, in memory and virtual time: a database that fails at every point of a transaction, a
//! broker that does not acknowledge, handlers that fail or panic, a process that dies between an effect and its commit,
//! members that join and leave.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

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
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "trip.booked", topic = "trip.events", saga = "id")]
struct Booked {
    id: Uuid,
    mood: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "trip.cancelled", topic = "trip.events", saga = "id")]
struct Cancelled {
    id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.taken", topic = "seat.events", saga = "id")]
struct Taken {
    id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.freed", topic = "seat.events", saga = "id")]
struct Freed {
    id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.expired", topic = "seat.events", saga = "id")]
struct Expired {
    id: Uuid,
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

/// A test environment: one broker, one database, and participants that start and stop.
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

    async fn eventually(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        for _ in 0..20_000 {
            if holds().await {
                return;
            }
            self.clock.sleep(Duration::from_millis(10)).await;
        }
        panic!("not within 200 s of virtual time: {what}");
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

    /// Simulates a crash: nothing is flushed, committed or exported.
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

/// Accepts records and never acknowledges them.
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

#[tokio::test(start_paused = true)]
async fn a_fault_at_any_point_of_a_transaction_only_delays_its_events() {
    for fault in [Fault::Begin, Fault::Commit, Fault::CommitAnswer, Fault::Deadlock] {
        local(async || {
            let world = World::new(3);
            let member = world.start(seats());
            (0..20).for_each(|_| world.publish(&booked("fine")));
            world.store.inject([fault, fault]);
            world.caught_up().await;
            assert_eq!(world.store.get::<u32>("taken").await, Some(20), "{fault:?}");
            assert_eq!(
                world.types("seat.events"),
                vec!["seat.taken"; 20],
                "{fault:?}: each is published, and none twice"
            );
            member.stop().await;
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_fails_does_not_fail_its_batch() {
    for mood in ["fail", "panic"] {
        local(async || {
            let world = World::new(1);
            let mut bad = 0;
            for i in 0..30 {
                let is_bad = i % 10 == 3;
                bad += usize::from(is_bad);
                world.publish(&booked(if is_bad { mood } else { "fine" }));
            }
            let member = world.start(seats());
            world.caught_up().await;
            assert_eq!(world.types("seat.events").len(), 30 - bad);
            assert_eq!(world.broker.records("seat.dlq").len(), bad);
            assert_eq!(world.store.summary().await.unwrap().blocked_sagas, bad as u64);
            member.stop().await;
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_the_broker_does_not_acknowledge_are_published_later_in_their_order() {
    local(async || {
        let world = World::new(1);
        let member = world.start(seats());
        world.broker.refuse(7);
        let trips: Vec<Booked> = (0..10).map(|_| booked("fine")).collect();
        trips.iter().for_each(|trip| world.publish(trip));
        world.caught_up().await;
        trips.iter().for_each(|trip| world.publish(&Cancelled { id: trip.id }));
        world.caught_up().await;
        for trip in &trips {
            let key = trip.id.to_string().into_bytes();
            let mut seen: Vec<Vec<u8>> = Vec::new();
            for record in world.broker.records("seat.events").into_iter().filter(|r| r.key.as_ref() == Some(&key)) {
                let of_type = record.headers.iter().find(|h| h.is(header::TYPE)).unwrap().value.clone().unwrap();
                if !seen.contains(&of_type) {
                    seen.push(of_type);
                }
            }
            assert_eq!(seen, [b"seat.taken".to_vec(), b"seat.freed".to_vec()]);
        }
        member.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_process_leaves_its_outbox_to_the_next_one() {
    local(async || {
        let world = World::new(2);
        world.broker.refuse(usize::MAX);
        let member = world.start(seats());
        (0..5).for_each(|_| world.publish(&booked("fine")));
        world.eventually("it is committed", async || world.store.get::<u32>("taken").await == Some(5)).await;
        member.die().await;
        world.broker.refuse(0);
        let next = world.start(seats());
        world.caught_up().await;
        assert_eq!(world.types("seat.events"), vec!["seat.taken"; 5]);
        assert_eq!(world.store.get::<u32>("taken").await, Some(5));
        next.stop().await;
    })
    .await;
}

/// The effect completes only when the test permits it; a process can die before that.
fn slow_seats(calls: Arc<AtomicUsize>, compensated: Arc<AtomicUsize>, answers: bool) -> Participant<MemoryStore> {
    let effect = async move |_: &Call, _: &Booked| {
        calls.fetch_add(1, Ordering::SeqCst);
        if !answers {
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    async fn note(cx: &mut Cx<'_, MemoryStore>, trip: Booked, _: ()) -> StepResult<Taken> {
        cx.tx().put("taken", &1);
        Ok(Outcome::Success(Taken { id: trip.id }))
    }
    let compensate = async move |_: &Call, _: &Cancelled| {
        compensated.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    Participant::named("seat").step(Step::with_effect("note", effect, note).undone_with_effect(compensate, free))
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_after_a_crash_between_effect_and_commit_compensates_the_effect() {
    local(async || {
        let world = World::new(1);
        let (calls, compensated) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let trip = booked("fine");
        let member = world.start(slow_seats(calls.clone(), compensated.clone(), false));
        world.publish(&trip);
        world.eventually("the effect is in flight", async || calls.load(Ordering::SeqCst) == 1).await;
        member.die().await;
        assert_eq!(world.store.mark(SagaId::from(trip.id), "note", Op::Action).await, Some(Mark::Started));

        // The cancellation is delivered first this time. The record of the action was not committed, so the next
        // process reads both, and a broker may deliver the other topic's event first.
        let other = World { broker: MemoryBroker::new(1), ..world };
        let next = other.start(slow_seats(calls.clone(), compensated.clone(), true));
        other.publish(&Cancelled { id: trip.id });
        other.caught_up().await;
        other.publish(&trip);
        other.caught_up().await;
        assert_eq!(compensated.load(Ordering::SeqCst), 1, "an effect that may have happened is compensated");
        assert_eq!(other.types("seat.events"), ["seat.freed"]);
        assert_eq!(calls.load(Ordering::SeqCst), 1, "the late action calls nothing");
        assert_eq!(other.store.get::<u32>("taken").await, None);
        next.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_resumes_a_started_effect_under_the_same_key() {
    local(async || {
        let world = World::new(1);
        let (calls, compensated) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let member = world.start(slow_seats(calls.clone(), compensated.clone(), false));
        world.publish(&booked("fine"));
        world.eventually("the effect is in flight", async || calls.load(Ordering::SeqCst) == 1).await;
        member.die().await;
        let next = world.start(slow_seats(calls.clone(), compensated.clone(), true));
        world.caught_up().await;
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        assert_eq!(world.types("seat.events"), ["seat.taken"]);
        next.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn members_that_join_and_leave_lose_nothing_and_repeat_nothing() {
    local(async || {
        let world = World::new(6);
        let first = world.start(seats());
        let mut published = 0;
        let mut members = vec![first];
        for round in 0..6 {
            for _ in 0..50 {
                world.publish(&booked("fine"));
                published += 1;
            }
            match round {
                0 | 1 | 3 => members.push(world.start(seats())),
                2 => members.remove(0).stop().await,
                _ => members.remove(0).die().await,
            }
        }
        world.caught_up().await;
        assert_eq!(world.store.get::<u32>("taken").await, Some(published));
        let ids: std::collections::HashSet<_> =
            world.broker.records("seat.events").into_iter().map(|r| r.key).collect();
        assert_eq!(ids.len(), published as usize);
        for member in members {
            member.stop().await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn poison_of_every_kind_is_dead_lettered_with_its_bytes_and_the_partition_moves_on() {
    local(async || {
        let world = World::new(1);
        let fine = record(&booked("fine"), Uuid::now_v7(), world.clock);
        let with = |change: &dyn Fn(&mut OutRecord)| {
            let mut record = fine.clone();
            change(&mut record);
            record
        };
        let header_set = |record: &mut OutRecord, name: &'static str, value: &str| {
            record.headers.retain(|h| !h.is(name));
            record.headers.push(Header::text(name, value));
        };
        let cases: Vec<(Reason, OutRecord)> = vec![
            (Reason::MissingType, with(&|r| r.headers.retain(|h| !h.is(header::TYPE)))),
            (Reason::MissingType, OutRecord { headers: vec![], value: Some(vec![0xff, 0, 1]), ..fine.clone() }),
            (Reason::MissingKey, with(&|r| r.key = None)),
            (Reason::MissingKey, with(&|r| r.key = Some(vec![]))),
            (Reason::KeyMismatch, with(&|r| r.key = Some(Uuid::now_v7().to_string().into_bytes()))),
            (Reason::KeyMismatch, with(&|r| r.key = Some(b"not a saga".to_vec()))),
            (Reason::KeyMismatch, with(&|r| r.key = Some(vec![0xff, 0xfe]))),
            (Reason::Undecodable, with(&|r| r.value = Some(b"{".to_vec()))),
            (Reason::Undecodable, with(&|r| r.value = Some(b"{\"id\": 7}".to_vec()))),
            (Reason::Undecodable, with(&|r| r.value = Some("[".repeat(10_000).into_bytes()))),
            (Reason::Undecodable, with(&|r| r.value = None)),
            (Reason::Undecodable, with(&|r| r.headers.push(Header { name: vec![0xff].into(), value: None }))),
            (Reason::Invalid, with(&|r| r.headers.push(Header::text(header::ID, "twice")))),
            (Reason::Invalid, with(&|r| r.headers.push(Header::text(header::TYPE, "trip.booked")))),
            (Reason::Invalid, with(&|r| header_set(r, header::SPECVERSION, "0.3"))),
            (Reason::UnsupportedVersion, with(&|r| header_set(r, header::DATASCHEMA, "/schemas/trip.booked/2"))),
            (Reason::UnsupportedVersion, with(&|r| header_set(r, header::DATASCHEMA, "/schemas/trip.booked/x"))),
        ];
        for (_, record) in &cases {
            world.broker.append(record.clone());
        }
        world.publish(&booked("fine"));
        let member = world.start(seats());
        world.caught_up().await;
        assert_eq!(world.types("seat.events"), ["seat.taken"], "the partition moves on");
        let letters = world.broker.records("seat.dlq");
        assert_eq!(letters.len(), cases.len());
        for (letter, (reason, original)) in letters.iter().zip(&cases) {
            let text = |name: &str| {
                String::from_utf8(letter.headers.iter().find(|h| h.is(name)).unwrap().value.clone().unwrap()).unwrap()
            };
            assert_eq!(text("error.type"), reason.as_str(), "{original:?}");
            assert_eq!((&letter.key, &letter.value), (&original.key, &original.value));
            assert!(letter.headers.starts_with(&original.headers), "the original headers are kept");
            assert_eq!(text("__dlq.errors.topic"), "trip.events");
        }
        member.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_type_that_is_not_consumed_is_passed_over_and_counted() {
    local(async || {
        let world = World::new(1);
        let mut other = record(&booked("fine"), Uuid::now_v7(), world.clock);
        other.headers.retain(|h| !h.is(header::TYPE));
        other.headers.push(Header::text(header::TYPE, "trip.praised"));
        other.key = None;
        world.broker.append(other);
        let member = world.start(seats());
        world.caught_up().await;
        assert_eq!(member.metrics.passed_over.get(), 1);
        assert_eq!(world.broker.records("seat.dlq"), []);
        member.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_offset_does_not_move_past_a_dead_letter_that_is_not_acknowledged() {
    local(async || {
        let world = World::new(1);
        let mut garbage = record(&booked("fine"), Uuid::now_v7(), world.clock);
        garbage.value = Some(vec![0xff]);
        world.broker.refuse(usize::MAX);
        world.broker.append(garbage);
        let member = world.start(seats());
        world.clock.sleep(Duration::from_secs(30)).await;
        assert!(!world.broker.is_caught_up("seat"));
        world.broker.refuse(0);
        world.caught_up().await;
        assert_eq!(world.broker.records("seat.dlq").len(), 1);
        member.stop().await;
    })
    .await;
}

fn waiting_seats(deadline: Duration) -> Participant<MemoryStore> {
    async fn book(_: &mut Cx<'_, MemoryStore>, _: Booked) -> StepResult<saga_core::Never> {
        Ok(Outcome::Quiet)
    }
    async fn end(_: &mut Cx<'_, MemoryStore>, _: Cancelled) -> StepResult<saga_core::Never> {
        Ok(Outcome::Quiet)
    }
    let expired = async |_: &mut Cx<'_, MemoryStore>, sagas: Vec<SagaId>| {
        Ok(sagas.into_iter().map(|id| Outcome::Success(Expired { id: id.as_uuid() })).collect())
    };
    Participant::named("seat").step(Step::new("book", book).deadline(deadline, expired)).step(Step::new("end", end))
}

#[tokio::test(start_paused = true)]
async fn a_deadline_fires_once_also_when_the_process_that_armed_it_is_gone() {
    local(async || {
        let world = World::new(1);
        let member = world.start(waiting_seats(Duration::from_secs(60)));
        let ended = booked("fine");
        world.publish(&booked("fine"));
        world.publish(&ended);
        world.publish(&Cancelled { id: ended.id });
        world.caught_up().await;
        member.die().await;
        world.clock.sleep(Duration::from_secs(120)).await;
        assert_eq!(world.types("seat.events"), Vec::<String>::new());
        let next = world.start(waiting_seats(Duration::from_secs(60)));
        world.eventually("it has fired", async || world.types("seat.events") == ["seat.expired"]).await;
        world.clock.sleep(Duration::from_secs(120)).await;
        assert_eq!(world.types("seat.events"), ["seat.expired"], "once, and not for the saga whose wait was over");
        assert_eq!(next.metrics.deadlines_fired.get(), 1);
        next.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn sagas_do_not_wait_for_one_whose_effect_hangs() {
    local(async || {
        let world = World::new(1);
        let effect = async |_: &Call, trip: &Booked| {
            if trip.mood == "hang" {
                std::future::pending::<()>().await;
            }
            Ok(())
        };
        async fn note(_: &mut Cx<'_, MemoryStore>, trip: Booked, _: ()) -> StepResult<Taken> {
            Ok(Outcome::Success(Taken { id: trip.id }))
        }
        let member = world.start(Participant::named("seat").step(Step::with_effect("note", effect, note)));
        world.publish(&booked("hang"));
        (0..10).for_each(|_| world.publish(&booked("fine")));
        let before = world.clock.now();
        world.eventually("the others are done", async || world.types("seat.events").len() == 10).await;
        assert!(world.clock.now().duration_since(before).as_secs() < 1);
        member.die().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_database_outage_during_an_assignment_ends_in_readiness_without_an_event() {
    local(async || {
        let world = World::new(1);
        world.store.inject([Fault::Read; 5]);
        let member = world.start(seats());
        world.eventually("it waits", async || !member.health.waiting_for().is_empty()).await;
        world.eventually("it is ready", async || member.health.waiting_for().is_empty()).await;
        member.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_outbox_full_of_rows_in_flight_hides_no_unpublished_row() {
    local(async || {
        let world = World::new(1);
        let broker = Mute::default();
        let handle = Handle::new("seat", world.store.clone(), broker.clone(), world.clock);
        let outbox = handle.outbox();
        let runtime = Runtime::new(seats(), handle, Options::default());
        let consumer = world.broker.subscribe("seat", &["trip.events".to_owned()]);
        let task = tokio::task::spawn_local(runtime.run(consumer, std::future::pending()));
        let commit = async |row: OutboxRow| {
            let (tx, _) = world.store.begin(&[], Duration::from_secs(1)).await.unwrap();
            world.store.commit(tx, Changes { outbox: vec![row], ..Changes::default() }).await.unwrap();
        };
        for _ in 0..600 {
            let row = outbox.row(&Taken { id: Uuid::now_v7() }, &TraceContext::default()).unwrap();
            commit(row.clone()).await;
            outbox.committed(vec![row]);
        }
        // Committed by a process that died before it published.
        let lost = outbox.row(&Taken { id: Uuid::now_v7() }, &TraceContext::default()).unwrap();
        commit(lost.clone()).await;
        world.eventually("it is published", async || broker.published(&lost)).await;
        task.abort();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_whose_handler_fails_does_not_delay_the_others() {
    local(async || {
        let bad = booked("bad");
        let poisoned = SagaId::from(bad.id);
        async fn book(_: &mut Cx<'_, MemoryStore>, _: Booked) -> StepResult<saga_core::Never> {
            Ok(Outcome::Quiet)
        }
        let expired = async move |_: &mut Cx<'_, MemoryStore>, sagas: Vec<SagaId>| {
            if sagas.contains(&poisoned) {
                return Err(StepError::permanent("a defect"));
            }
            Ok(sagas.into_iter().map(|id| Outcome::Success(Expired { id: id.as_uuid() })).collect())
        };
        let world = World::new(1);
        let step = Step::new("book", book).deadline(Duration::from_secs(10), expired);
        let member = world.start(Participant::named("seat").step(step));
        world.publish(&bad);
        world.caught_up().await;
        (0..10).for_each(|_| world.publish(&booked("fine")));
        world.eventually("the others fire", async || world.types("seat.events").len() == 10).await;
        assert_eq!(world.store.summary().await.unwrap().timers, 1, "the bad one stays armed");
        member.stop().await;
    })
    .await;
}

//! Partitions, parked sagas and outboxes that pass from one owner to the next at the worst time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use saga_core::{
    Event, Never, Outcome, Participant, RetryPolicy, SagaId, Step, StepError, StepResult,
    clock::Clock,
    envelope::{Outgoing, seal},
    event::EventType,
    handler::{Call, Cx},
    record::{OutRecord, Record, TopicPartition},
    runtime::{Handle, Options, Runtime},
    store::Store,
    testing::{Fault, MemoryBroker, MemoryStore, Scenario, VirtualClock},
    trace::TraceContext,
    transport::{Consumer, RevokeGuard, Signal},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use uuid::Uuid;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "trip.booked", topic = "trip.events", saga = "id")]
struct Booked {
    id: Uuid,
}
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "pay.charged", topic = "pay.events", saga = "id")]
struct Charged {
    id: Uuid,
}
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "pay.declined", topic = "pay.events", saga = "id")]
struct Declined {
    id: Uuid,
}

async fn seat(cx: &mut Cx<'_, MemoryStore>, b: Booked) -> StepResult<Charged, Never> {
    let n: u32 = cx.tx().get("taken").unwrap_or(0);
    cx.tx().put("taken", &(n + 1));
    Ok(Outcome::Success(Charged { id: b.id }))
}

fn out(event: &Booked, clock: VirtualClock) -> OutRecord {
    let trace = TraceContext::default();
    let o = Outgoing {
        id: Uuid::now_v7(),
        source: "t",
        saga_id: Event::saga_id(event),
        causation_id: None,
        time: clock.now(),
        trace: &trace,
        null_compensation: false,
    };
    seal(EventType::of::<Booked>(), serde_json::to_vec(event).unwrap(), &o)
}

struct Script {
    signals: tokio::sync::mpsc::UnboundedReceiver<Signal>,
    pending: Option<Signal>,
    stored: Arc<Mutex<Vec<i64>>>,
}
impl Consumer for Script {
    async fn next(&mut self, room: usize) -> Signal {
        loop {
            if let Some(s) = self.pending.take() {
                if room > 0 || !matches!(s, Signal::Records(_)) {
                    return s;
                }
                self.pending = Some(s);
                return std::future::pending().await;
            }
            match self.signals.recv().await {
                Some(s) => self.pending = Some(s),
                None => return std::future::pending().await,
            }
        }
    }
    fn store_offsets(&self, o: &[(TopicPartition, i64)]) {
        self.stored.lock().unwrap().extend(o.iter().map(|(_, n)| *n));
    }
    fn pause(&self, _: &[TopicPartition], _: bool) {}
    async fn close(self) {}
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_returns_before_its_release_is_handled() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let (store, clock, broker) = (MemoryStore::default(), VirtualClock::start(), MemoryBroker::new(1));
            let p = Participant::named("seat").step(Step::new("seat", seat));
            let handle = Handle::new("seat", store.clone(), broker.producer(), clock);
            let (tx, signals) = tokio::sync::mpsc::unbounded_channel();
            let stored = Arc::new(Mutex::new(vec![]));
            let consumer = Script { signals, pending: None, stored: stored.clone() };
            let (_stop, stopped) = tokio::sync::oneshot::channel::<()>();
            tokio::task::spawn_local(Runtime::new(p, handle, Options::default()).run(consumer, async {
                let _ = stopped.await;
            }));
            let part = || TopicPartition { topic: "trip.events".into(), partition: 0 };
            let rec = |offset| {
                let r = out(&Booked { id: Uuid::now_v7() }, clock);
                Record {
                    topic: "trip.events".into(),
                    partition: 0,
                    offset,
                    key: r.key,
                    value: r.value,
                    headers: r.headers,
                }
            };
            let first = rec(0);
            tx.send(Signal::Assigned(vec![part()])).unwrap();
            clock.sleep(Duration::from_secs(1)).await;
            store.inject([Fault::Begin; 6]); // the database is away for some seconds
            tx.send(Signal::Records(vec![first.clone()])).unwrap();
            clock.sleep(Duration::from_secs(1)).await;
            tx.send(Signal::Revoked(vec![part()], RevokeGuard::unguarded())).unwrap();
            tx.send(Signal::Assigned(vec![part()])).unwrap();
            clock.sleep(Duration::from_secs(60)).await;
            tx.send(Signal::Records(vec![first, rec(1), rec(2)])).unwrap();
            clock.sleep(Duration::from_secs(120)).await;
            assert_eq!(store.get::<u32>("taken").await, Some(3));
        })
        .await;
}

#[derive(Default)]
struct Gate {
    calls: AtomicUsize,
    captured: AtomicBool,
    refunded: AtomicBool,
    voids: AtomicUsize,
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_is_being_voided_is_never_called_again() {
    let g = Arc::new(Gate::default());
    let (a, b) = (g.clone(), g.clone());
    let step = Step::with_effect(
        "charge",
        async move |_: &Call, _: &Booked| {
            a.captured.store(true, SeqCst); // once per key; the first answer stands
            // the first 3 answers are lost
            if a.calls.fetch_add(1, SeqCst) < 3 {
                return Err(StepError::transient("no answer"));
            }
            Ok(true)
        },
        async |_: &mut Cx<'_, MemoryStore>, b: Booked, _yes: bool| -> StepResult<Charged, Declined> {
            Ok(Outcome::Success(Charged { id: b.id }))
        },
    )
    .retry(RetryPolicy::fixed(Duration::from_millis(50), 3))
    .when_exhausted_with_effect(
        async move |_: &Call, _: &Booked| {
            b.refunded.store(true, SeqCst);
            if b.voids.fetch_add(1, SeqCst) == 0 {
                return Err(StepError::transient("carried out, but the answer was lost"));
            }
            Ok(())
        },
        async |_: &mut Cx<'_, MemoryStore>, b: Booked, _: &StepError| Ok(Declined { id: b.id }),
    );
    let p = Participant::named("pay").step(step);
    let published = Scenario::new(p, MemoryStore::default()).when(&Booked { id: SagaId::random().as_uuid() }).await;
    let types: Vec<_> = published.iter().map(|p| p.event_type.as_str()).collect();
    assert_eq!(types, ["pay.declined"]);
}

#[tokio::test(start_paused = true)]
async fn an_outbox_row_that_the_broker_does_not_take_stops_no_other_row_or_is_reported() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let (store, clock, broker) = (MemoryStore::default(), VirtualClock::start(), MemoryBroker::new(1));
            let p = Participant::named("seat").step(Step::new("seat", seat));
            let handle = Handle::new("seat", store.clone(), broker.producer(), clock);
            let health = handle.health().clone();
            // one row left behind, for a topic that the broker refuses (missing, or not authorised)
            let row = handle.outbox().row(&Charged { id: Uuid::now_v7() }, &TraceContext::default()).unwrap();
            let (tx, _) = store.begin(&[], Duration::from_secs(1)).await.unwrap();
            store.commit(tx, saga_core::store::Changes { outbox: vec![row], ..Default::default() }).await.unwrap();
            broker.refuse(1_000_000);
            let consumer = broker.subscribe("seat", &["trip.events".to_string()]);
            let (_stop, stopped) = tokio::sync::oneshot::channel::<()>();
            tokio::task::spawn_local(Runtime::new(p, handle, Options::default()).run(consumer, async {
                let _ = stopped.await;
            }));
            broker.append(out(&Booked { id: Uuid::now_v7() }, clock));
            clock.sleep(Duration::from_secs(120)).await;
            assert!(!health.waiting_for().is_empty() || store.get::<u32>("taken").await == Some(1));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_delayed_process_cannot_finish_an_effect_that_the_next_one_voids() {
    let (set_a, set_b) = (tokio::task::LocalSet::new(), tokio::task::LocalSet::new());
    let (store, clock, broker) = (MemoryStore::default(), VirtualClock::start(), MemoryBroker::new(1));
    let g = Arc::new(Gate::default());
    let make = || {
        let (a, b) = (g.clone(), g.clone());
        let step = Step::with_effect(
            "charge",
            async move |_: &Call, _: &Booked| match a.calls.fetch_add(1, SeqCst) {
                0 => Err(StepError::transient("no answer")),
                1 => {
                    a.captured.store(true, SeqCst);
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    Ok(true)
                } // the process is paused with the result of its call
                _ => Err(StepError::transient("no answer")),
            },
            async |_: &mut Cx<'_, MemoryStore>, b: Booked, _yes: bool| -> StepResult<Charged, Declined> {
                Ok(Outcome::Success(Charged { id: b.id }))
            },
        )
        .retry(RetryPolicy::fixed(Duration::from_millis(50), 2))
        .effect_limits(saga_core::step::EffectLimits { timeout: Duration::from_secs(60), ..Default::default() })
        .when_exhausted_with_effect(
            async move |_: &Call, _: &Booked| {
                b.refunded.store(true, SeqCst);
                tokio::time::sleep(Duration::from_secs(4)).await;
                Ok(())
            },
            async |_: &mut Cx<'_, MemoryStore>, b: Booked, _: &StepError| Ok(Declined { id: b.id }),
        );
        Participant::named("pay").step(step)
    };
    let mut stops = vec![];
    for set in [&set_a, &set_b] {
        let handle = Handle::new("pay", store.clone(), broker.producer(), clock);
        let consumer = broker.subscribe("pay", &["trip.events".to_string()]);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        stops.push(stop);
        set.spawn_local(Runtime::new(make(), handle, Options::default()).run(consumer, async {
            let _ = stopped.await;
        }));
    }
    broker.append(out(&Booked { id: Uuid::now_v7() }, clock));
    set_a.run_until(clock.sleep(Duration::from_secs(3))).await;
    // the process of A is stopped for 16 s; B goes on
    set_b
        .run_until(async {
            for _ in 0..30_000 {
                if g.refunded.load(SeqCst) {
                    break;
                }
                clock.sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    // both go on
    set_a.run_until(set_b.run_until(clock.sleep(Duration::from_secs(60)))).await;
    let types: Vec<_> = broker
        .records("pay.events")
        .iter()
        .map(|r| String::from_utf8(r.headers.iter().find(|h| h.is("ce_type")).unwrap().value.clone().unwrap()).unwrap())
        .collect();
    assert!(!(types.contains(&"pay.charged".to_string()) && g.refunded.load(SeqCst)));
}

#[tokio::test(start_paused = true)]
async fn an_event_redelivered_during_the_handover_of_its_earlier_delivery_is_handled() {
    let (calls, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
    let (called, passes) = (calls.clone(), gate.clone());
    let step = Step::with_effect(
        "charge",
        async move |_: &Call, _: &Booked| {
            called.fetch_add(1, SeqCst);
            passes.acquire().await.unwrap().forget();
            Ok(())
        },
        async |_: &mut Cx<'_, MemoryStore>, b: Booked, ()| -> StepResult<Charged, Never> {
            Ok(Outcome::Success(Charged { id: b.id }))
        },
    );
    tokio::task::LocalSet::new()
        .run_until(async move {
            let (store, clock, broker) = (MemoryStore::default(), VirtualClock::start(), MemoryBroker::new(1));
            let handle = Handle::new("pay", store, broker.producer(), clock);
            let (tx, signals) = tokio::sync::mpsc::unbounded_channel();
            let stored = Arc::new(Mutex::new(vec![]));
            let consumer = Script { signals, pending: None, stored: stored.clone() };
            let participant = Participant::named("pay").step(step);
            let runtime = Runtime::new(participant, handle, Options::default());
            tokio::task::spawn_local(runtime.run(consumer, std::future::pending()));
            let part = || TopicPartition { topic: "trip.events".into(), partition: 0 };
            let r = out(&Booked { id: Uuid::now_v7() }, clock);
            let (key, value, headers) = (r.key, r.value, r.headers);
            let record = Record { topic: "trip.events".into(), partition: 0, offset: 0, key, value, headers };
            tx.send(Signal::Assigned(vec![part()])).unwrap();
            tx.send(Signal::Records(vec![record.clone()])).unwrap();
            clock.sleep(Duration::from_millis(500)).await;
            assert_eq!(calls.load(SeqCst), 1, "it is being called");
            tx.send(Signal::Revoked(vec![part()], RevokeGuard::unguarded())).unwrap();
            clock.sleep(Duration::from_millis(100)).await;
            tx.send(Signal::Assigned(vec![part()])).unwrap();
            tx.send(Signal::Records(vec![record])).unwrap();
            clock.sleep(Duration::from_millis(100)).await;
            gate.add_permits(1);
            clock.sleep(Duration::from_millis(500)).await;
            assert_eq!(
                calls.load(SeqCst),
                2,
                "the earlier delivery's result is dropped, and the effect is called again"
            );
            assert!(stored.lock().unwrap().is_empty(), "and not acknowledged before it is done");
            gate.add_permits(1);
            clock.sleep(Duration::from_secs(1)).await;
            assert_eq!(broker.records("pay.events").len(), 1);
            assert_eq!(*stored.lock().unwrap(), [1]);
        })
        .await;
}

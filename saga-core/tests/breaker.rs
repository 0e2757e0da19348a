//! How an outside system that fails for all sagas affects them, in memory and virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use saga_core::{
    Event, Outcome, Participant, RetryPolicy, Step, StepError, StepResult,
    clock::Clock,
    envelope::header,
    handler::{Call, Cx},
    runtime::{CallLabel, StepOnly},
    step::{BreakerPolicy, EffectLimits},
    store::Store,
    testing::{MemoryStore, VirtualClock},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::common::{
    World,
    trip::{Booked, Cancelled, Freed, Taken},
};

/// An outside system.
#[derive(Clone, Default)]
struct Airline {
    is_down: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    compensated: Arc<AtomicUsize>,
}

impl Airline {
    fn participant(&self, retry: RetryPolicy) -> Participant<MemoryStore> {
        let (airline, compensated) = (self.clone(), self.compensated.clone());
        let compensate = async move |_: &Call, _: &Cancelled| {
            compensated.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        async fn free(_: &mut Cx<'_, MemoryStore>, why: Cancelled) -> Result<Freed, StepError> {
            Ok(why.into())
        }
        let ask = async move |_: &Call, _: &Booked| {
            airline.calls.fetch_add(1, Ordering::SeqCst);
            match airline.is_down.load(Ordering::SeqCst) {
                true => Err(StepError::infrastructure("no connection")),
                false => Ok(()),
            }
        };
        async fn take(_: &mut Cx<'_, MemoryStore>, trip: Booked, (): ()) -> StepResult<Taken> {
            Ok(Outcome::Success(Taken { id: trip.id }))
        }
        let breaker = BreakerPolicy { failure_share: 0.5, window: 2, open_for: Duration::from_secs(1) };
        let limits = EffectLimits { breaker, ..EffectLimits::default() };
        let step = Step::with_effect("take", ask, take).undone_with_effect(compensate, free);
        Participant::named("seat").step(step.effect_limits(limits).retry(retry))
    }
}

/// Waits until the breaker is open: two sagas have made calls that failed.
async fn opened(world: &World) {
    (0..2).for_each(|_| world.publish(&Booked::anew()));
    let open = || world.metrics.breaker_open.get_or_create(&StepOnly { step: "take" }).get() == 1;
    world.eventually("it is open", async || open()).await;
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_uses_up_no_attempt_of_a_saga_that_was_never_called() {
    let airline = Airline::default();
    airline.is_down.store(true, Ordering::SeqCst);
    let three = RetryPolicy::fixed(Duration::from_millis(100), 3);
    World::with(airline.participant(three), async |world| {
        opened(world).await;
        (0..10).for_each(|_| world.publish(&Booked::anew()));
        world.clock.sleep(Duration::from_secs(9)).await;
        let called = airline.calls.load(Ordering::SeqCst);
        assert!(called < 15, "one trial per second, not {called} calls");
        airline.is_down.store(false, Ordering::SeqCst);
        let settled = async || world.store.summary().await.unwrap().parked_sagas == 0;
        world.eventually("all are done", settled).await;
        let (taken, dead) = (world.broker.records("seat.events").len(), world.broker.records("seat.dlq").len());
        assert_eq!(taken + dead, 12);
        // Each failed trial counted as one attempt of the saga that made it.
        assert!(dead <= called / 3, "{dead} dead letters after {called} calls");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_was_never_called_is_compensated_at_once_and_without_a_call() {
    let airline = Airline::default();
    airline.is_down.store(true, Ordering::SeqCst);
    World::with(airline.participant(RetryPolicy::default()), async |world| {
        opened(world).await;
        let trip = Booked::anew();
        world.publish(&trip);
        let three = async || world.store.summary().await.unwrap().parked_sagas == 3;
        world.eventually("it waits", three).await;
        let before = world.clock.now();
        world.publish(&Cancelled { id: trip.id });
        world.eventually("it is cancelled", async || world.types("seat.events") == ["seat.freed"]).await;
        assert!(world.clock.now().duration_since(before).as_secs_f64() < 1.0);
        assert_eq!(world.headers("seat.events", header::NULL_COMPENSATION), ["true"]);
        airline.is_down.store(false, Ordering::SeqCst);
        let settled = async || world.store.summary().await.unwrap().parked_sagas == 0;
        world.eventually("the others are done", settled).await;
        assert_eq!(world.types("seat.events").iter().filter(|of| *of == "seat.taken").count(), 2);
        assert_eq!(airline.compensated.load(Ordering::SeqCst), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn sagas_behind_an_open_breaker_are_not_tried_and_all_continue_when_it_closes() {
    let airline = Airline::default();
    airline.is_down.store(true, Ordering::SeqCst);
    World::with(airline.participant(RetryPolicy::custom(|_| Some(Duration::from_secs(1)))), async |world| {
        opened(world).await;
        (0..300).for_each(|_| world.publish(&Booked::anew()));
        let all = async || world.store.summary().await.unwrap().parked_sagas == 302;
        world.eventually("all wait", all).await;
        let rejected =
            || world.metrics.effect_calls.get_or_create(&CallLabel { step: "take", result: "rejected" }).get();
        let (before, called) = (rejected(), airline.calls.load(Ordering::SeqCst));
        world.clock.sleep(Duration::from_secs(60)).await;
        let trials = airline.calls.load(Ordering::SeqCst) - called;
        assert!((20..=61).contains(&trials), "{trials} trials in a minute");
        assert!(rejected() - before < 10 * 60, "{} were tried in vain", rejected() - before);
        airline.is_down.store(false, Ordering::SeqCst);
        let again = world.clock.now();
        let settled = async || world.store.summary().await.unwrap().parked_sagas == 0;
        world.eventually("all are done", settled).await;
        assert!(world.clock.now().duration_since(again).as_secs_f64() < 5.0);
        assert_eq!(world.types("seat.events").len(), 302);
    })
    .await;
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "trip.lodging_wanted", topic = "trip.events", saga = "id")]
struct LodgingWanted {
    id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "room.found", topic = "room.events", saga = "id")]
struct Found {
    id: Uuid,
}

/// Another outside system: a call takes two seconds, and it is full until the test empties it.
fn lodging(full: &Arc<AtomicBool>) -> Step<MemoryStore, LodgingWanted, Found, saga_core::Never> {
    let full = full.clone();
    let ask = async move |_: &Call, _: &LodgingWanted| {
        VirtualClock::start().sleep(Duration::from_secs(2)).await;
        if full.load(Ordering::SeqCst) { Err(StepError::transient("full")) } else { Ok(()) }
    };
    async fn find(_: &mut Cx<'_, MemoryStore>, trip: LodgingWanted, (): ()) -> StepResult<Found> {
        Ok(Outcome::Success(Found { id: trip.id }))
    }
    Step::with_effect("find", ask, find).retry(RetryPolicy::custom(|_| Some(Duration::from_millis(100))))
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_another_step_does_not_keep_a_breaker_from_its_trial() {
    let (airline, full) = (Airline::default(), Arc::new(AtomicBool::new(true)));
    airline.is_down.store(true, Ordering::SeqCst);
    let forever = RetryPolicy::custom(|_| Some(Duration::from_secs(1)));
    World::with(airline.participant(forever).step(lodging(&full)), async |world| {
        (0..700).for_each(|_| world.publish(&LodgingWanted { id: Uuid::now_v7() }));
        opened(world).await;
        let all = async || world.store.summary().await.unwrap().parked_sagas == 702;
        world.eventually("all wait", all).await;
        airline.is_down.store(false, Ordering::SeqCst);
        let again = world.clock.now();
        world.eventually("the trips are booked", async || world.types("seat.events").len() == 2).await;
        let took = world.clock.now().duration_since(again).as_secs_f64();
        assert!(took < 20.0, "it took {took} s");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_without_trials_does_not_slow_the_backlog_of_another_step() {
    let (airline, full) = (Airline::default(), Arc::new(AtomicBool::new(true)));
    airline.is_down.store(true, Ordering::SeqCst);
    // The sagas that opened the breaker call no more: without a trial it stays open.
    let once = RetryPolicy::NONE;
    World::with(airline.participant(once).step(lodging(&full)), async |world| {
        (0..700).for_each(|_| world.publish(&LodgingWanted { id: Uuid::now_v7() }));
        opened(world).await;
        let all = async || world.store.summary().await.unwrap().parked_sagas == 700;
        world.eventually("all wait", all).await;
        full.store(false, Ordering::SeqCst);
        let again = world.clock.now();
        world.eventually("the rooms are found", async || world.types("room.events").len() == 700).await;
        let took = world.clock.now().duration_since(again).as_secs_f64();
        assert!(took < 20.0, "it took {took} s");
    })
    .await;
}

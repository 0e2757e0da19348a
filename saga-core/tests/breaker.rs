//! What an outside system that fails for everybody costs the sagas, in memory and virtual time.

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
    handler::{Call, Cx},
    step::{BreakerPolicy, EffectLimits},
    store::Store,
    testing::MemoryStore,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::common::World;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "trip.booked", topic = "trip.events", saga = "id")]
struct Booked {
    id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.taken", topic = "seat.events", saga = "id")]
struct Taken {
    id: Uuid,
}

/// An outside system.
#[derive(Clone, Default)]
struct Airline {
    is_down: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Airline {
    fn participant(&self, retry: RetryPolicy) -> Participant<MemoryStore> {
        let airline = self.clone();
        let ask = async move |_: &Call, _: &Booked| {
            airline.calls.fetch_add(1, Ordering::SeqCst);
            match airline.is_down.load(Ordering::SeqCst) {
                true => Err(StepError::infrastructure("nobody is there")),
                false => Ok(()),
            }
        };
        async fn take(_: &mut Cx<'_, MemoryStore>, trip: Booked, (): ()) -> StepResult<Taken> {
            Ok(Outcome::Success(Taken { id: trip.id }))
        }
        let breaker = BreakerPolicy { failure_share: 0.5, window: 2, open_for: Duration::from_secs(1) };
        let limits = EffectLimits { breaker, ..EffectLimits::default() };
        Participant::named("seat").step(Step::with_effect(ask, take).effect_limits(limits).retry(retry))
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_uses_up_no_attempt_of_a_saga_that_was_never_called() {
    let airline = Airline::default();
    airline.is_down.store(true, Ordering::SeqCst);
    let three = RetryPolicy::fixed(Duration::from_millis(100), 3);
    World::with(airline.participant(three), async |world| {
        // These two open it, and their attempts are used up.
        (0..2).for_each(|_| world.publish(&Booked { id: Uuid::now_v7() }));
        let open =
            || world.metrics.breaker_open.get_or_create(&saga_core::runtime::StepOnly { step: "take" }).get() == 1;
        world.eventually("it is open", async || open()).await;
        (0..10).for_each(|_| world.publish(&Booked { id: Uuid::now_v7() }));
        world.clock.sleep(Duration::from_secs(9)).await;
        let called = airline.calls.load(Ordering::SeqCst);
        assert!(called < 15, "one trial a second, and not {called} calls");
        airline.is_down.store(false, Ordering::SeqCst);
        let settled = async || world.store.summary().await.unwrap().parked_sagas == 0;
        world.eventually("all are done", settled).await;
        let (taken, dead) = (world.broker.records("seat.events").len(), world.broker.records("seat.dlq").len());
        assert_eq!(taken + dead, 12);
        // Each trial that failed was an attempt of the saga that made it, and no more than that.
        assert!(dead <= called / 3, "{dead} dead letters after {called} calls");
    })
    .await;
}

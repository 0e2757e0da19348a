//! Deadlines that cannot fire, and how they affect other deadlines and events, in memory and virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::time::Duration;

use saga_core::{
    Event, Outcome, Participant, SagaId, Step, StepResult,
    clock::Clock,
    handler::Cx,
    store::{Store, StoreError},
    testing::{MemoryStore, VirtualClock},
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
#[event(name = "trip.paid", topic = "trip.events", saga = "id")]
struct Paid {
    id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.taken", topic = "seat.events", saga = "id")]
struct Taken {
    id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.expired", topic = "seat.events", saga = "id")]
struct Expired {
    id: Uuid,
}

/// How a saga's deadline fails, and after what time; none when it fires.
type Failure = fn(Uuid) -> Option<(Duration, StoreError)>;

/// Sagas with an even id fail.
fn is_bad(id: Uuid) -> bool {
    id.as_u128() & 1 == 0
}

fn trip(bad: bool) -> Booked {
    let id = Uuid::now_v7().as_u128() & !1;
    Booked { id: Uuid::from_u128(id | u128::from(!bad)) }
}

fn locked(id: Uuid) -> Option<(Duration, StoreError)> {
    is_bad(id).then(|| (Duration::from_millis(25), StoreError::Locked("a locked row (SQLSTATE 55P03)".to_owned())))
}

fn wrong(id: Uuid) -> Option<(Duration, StoreError)> {
    is_bad(id)
        .then(|| (Duration::ZERO, StoreError::Broken("column \"row\" does not exist (SQLSTATE 42703)".to_owned())))
}

fn slow(id: Uuid) -> Option<(Duration, StoreError)> {
    is_bad(id).then(|| (Duration::from_secs(9), StoreError::Unavailable("timeout (SQLSTATE 57014)".to_owned())))
}

/// Waits ten seconds for the payment of each trip.
fn seats(failure: Failure) -> Participant<MemoryStore> {
    async fn book(_: &mut Cx<'_, MemoryStore>, _: Booked) -> StepResult<saga_core::Never> {
        Ok(Outcome::Quiet)
    }
    async fn take(_: &mut Cx<'_, MemoryStore>, trip: Paid) -> StepResult<Taken> {
        Ok(Outcome::Success(Taken { id: trip.id }))
    }
    let expired = async move |_: &mut Cx<'_, MemoryStore>, sagas: Vec<SagaId>| {
        for saga in &sagas {
            if let Some((took, error)) = failure(saga.as_uuid()) {
                VirtualClock::start().sleep(took).await;
                return Err(error.into());
            }
        }
        Ok(sagas.into_iter().map(|id| Outcome::Success(Expired { id: id.as_uuid() })).collect())
    };
    let step = Step::new("book", book).deadline(Duration::from_secs(10), expired);
    Participant::named("seat").step(step).step(Step::new("take", take))
}

#[tokio::test(start_paused = true)]
async fn deadlines_that_wait_for_a_lock_do_not_delay_events() {
    World::with(seats(locked), async |world| {
        (0..200).for_each(|_| world.publish(&trip(true)));
        world.clock.sleep(Duration::from_secs(11)).await;
        for handled in 1..=60 {
            world.publish(&Paid { id: Uuid::now_v7() });
            let before = world.clock.now();
            world.eventually("it is handled", async || world.types("seat.events").len() == handled).await;
            let took = world.clock.now().duration_since(before).as_secs_f64();
            assert!(took < 1.0, "event {handled} waits {took} s");
        }
        assert_eq!(world.store.summary().await.unwrap().timers, 200, "they stay armed");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_with_a_wrong_or_slow_statement_delays_no_other_and_readiness_names_it() {
    for failure in [wrong, slow] as [Failure; 2] {
        World::with(seats(failure), async |world| {
            world.publish(&trip(true));
            (0..10).for_each(|_| world.publish(&trip(false)));
            world.eventually("the others fire", async || world.types("seat.events").len() == 10).await;
            assert_eq!(world.store.summary().await.unwrap().timers, 1, "the bad one stays armed");
            let reported = || {
                let why = world.health.waiting_for();
                why.iter().any(|why| why.starts_with("deadlines: the deadline of book cannot be fired"))
            };
            // From the second failure on: a single lost connection is not reported.
            world.eventually("readiness names it", async || reported()).await;
            // Most of the time is left to the events.
            let (began, mut waited) = (world.clock.now(), 0.0);
            for handled in 11..=130 {
                let before = world.clock.now();
                world.publish(&Paid { id: Uuid::now_v7() });
                world.eventually("it is handled", async || world.types("seat.events").len() == handled).await;
                waited += world.clock.now().duration_since(before).as_secs_f64();
                world.clock.sleep(Duration::from_secs(1)).await;
            }
            let share = waited / world.clock.now().duration_since(began).as_secs_f64();
            assert!(share < 0.3, "events waited {share} of the time");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_fires_on_time_however_many_others_cannot_be_fired() {
    for failure in [wrong, locked] as [Failure; 2] {
        World::with(seats(failure), async |world| {
            (0..300).for_each(|_| world.publish(&trip(true)));
            world.clock.sleep(Duration::from_secs(30)).await;
            world.publish(&trip(false));
            let begun = world.clock.now();
            world.eventually("it fires", async || world.types("seat.events").len() == 1).await;
            let took = world.clock.now().duration_since(begun).as_secs_f64();
            assert!(took < 60.0, "{:?}: due after 10 s, fired after {took} s", failure(Uuid::nil()).unwrap().1);
        })
        .await;
    }
}

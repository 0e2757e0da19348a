//! How a database failure is attributed: to one event, to one step or to the database, and which events wait because of
//! it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{
    World,
    trip::{Booked, Cancelled, Freed, Taken},
};
use saga_core::{
    Never, Outcome, Participant, RetryPolicy, Step, StepError, StepResult,
    clock::Clock,
    handler::{Call, Cx},
    runtime::StepLabel,
    store::{Refusal, Store, StoreError},
    testing::{MemoryStore, VirtualClock},
};
use uuid::Uuid;

const TAKE: StepLabel = StepLabel { step: "take", op: "action" };

/// How the database fails an event's statement, and after what time.
type Failure = fn(Uuid) -> (Duration, StoreError);

/// The events whose statements fail.
#[derive(Clone, Default)]
struct Bad(Arc<Mutex<BTreeMap<Uuid, Failure>>>);

impl Bad {
    fn booked(&self, failure: Failure) -> Booked {
        let trip = Booked::anew();
        self.0.lock().unwrap().insert(trip.id, failure);
        trip
    }

    fn repaired(&self) {
        self.0.lock().unwrap().clear();
    }

    async fn meets(&self, id: Uuid) -> Result<(), StoreError> {
        let failure = self.0.lock().unwrap().get(&id).copied();
        let Some((took, error)) = failure.map(|failure| failure(id)) else { return Ok(()) };
        VirtualClock::start().sleep(took).await;
        Err(error)
    }
}

async fn free(_: &mut Cx<'_, MemoryStore>, why: Cancelled) -> Result<Freed, StepError> {
    Ok(why.into())
}

fn seats(bad: &Bad) -> Participant<MemoryStore> {
    let bad = bad.clone();
    let take = async move |_: &mut Cx<'_, MemoryStore>, trip: Booked| -> StepResult<Taken, Never> {
        bad.meets(trip.id).await?;
        Ok(Outcome::Success(Taken { id: trip.id }))
    };
    // A second event keeps the failing one set aside; alone, it would use up its attempts and be dead-lettered.
    Participant::named("seat").step(Step::new("take", take).undone_by(free).retry(RetryPolicy::NONE))
}

fn refused(id: Uuid) -> (Duration, StoreError) {
    let text = format!("Key (id)=({id}) already exists (SQLSTATE 23505)");
    (Duration::ZERO, StoreError::Rejected(Refusal::new("23505 seats seats_pkey", text)))
}

fn refused_otherwise(_: Uuid) -> (Duration, StoreError) {
    (Duration::ZERO, StoreError::Rejected("null in column \"row\" (SQLSTATE 23502)".into()))
}

fn wrong(_: Uuid) -> (Duration, StoreError) {
    (Duration::ZERO, StoreError::Broken("column \"row\" does not exist (SQLSTATE 42703)".to_owned()))
}

fn slow(_: Uuid) -> (Duration, StoreError) {
    (Duration::from_secs(9), StoreError::Unavailable("statement timeout (SQLSTATE 57014)".to_owned()))
}

fn corrupt(_: Uuid) -> (Duration, StoreError) {
    (Duration::ZERO, StoreError::Unavailable("invalid page (SQLSTATE XX001)".to_owned()))
}

fn conflicting(_: Uuid) -> (Duration, StoreError) {
    (Duration::ZERO, StoreError::Conflict("as if (SQLSTATE 40001)".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn one_event_with_refused_data_is_dead_lettered_and_the_rest_of_its_batch_is_handled() {
    let bad = Bad::default();
    World::with(seats(&bad), async |world| {
        for i in 0..20 {
            world.publish(&if i == 7 { bad.booked(refused) } else { Booked::anew() });
        }
        world.eventually("the others are handled", async || world.types("seat.events").len() == 19).await;
        world.eventually("it is dead-lettered", async || world.broker.records("seat.dlq").len() == 1).await;
        assert!(world.health.waiting_for().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_always_fails_is_set_aside_and_the_others_are_handled() {
    for failure in [wrong, slow, corrupt, conflicting] as [Failure; 4] {
        let bad = Bad::default();
        World::with(seats(&bad), async |world| {
            // Alone first, then with others.
            world.publish(&bad.booked(failure));
            world.eventually("it is parked", async || world.store.summary().await.unwrap().parked_sagas == 1).await;
            for i in 0..20 {
                world.publish(&if i == 7 { bad.booked(failure) } else { Booked::anew() });
            }
            world.eventually("the others are handled", async || world.types("seat.events").len() == 19).await;
            world.publish(&Cancelled { id: Uuid::now_v7() });
            world.eventually("another step", async || world.types("seat.events").len() == 20).await;
            bad.repaired();
            world.eventually("all are handled", async || world.types("seat.events").len() == 22).await;
            assert_eq!(world.broker.records("seat.dlq").len(), 0);
            assert_eq!(world.metrics.retries.get_or_create(&TAKE).get(), 0);
            world.eventually("it is ready", async || world.health.waiting_for().is_empty()).await;
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_with_a_wrong_statement_is_named_by_readiness_and_stops_no_other_step() {
    let bad = Bad::default();
    World::with(seats(&bad), async |world| {
        world.publish(&bad.booked(wrong));
        let reported = async || {
            world.health.waiting_for().iter().any(|why| why.starts_with("handlers: ") && why.contains("42703"))
        };
        world.eventually("readiness says why", reported).await;
        (0..40).for_each(|_| world.publish(&bad.booked(wrong)));
        (0..5).for_each(|_| world.publish(&Cancelled { id: Uuid::now_v7() }));
        world.eventually("the other step goes on", async || world.types("seat.events") == ["seat.freed"; 5]).await;
        assert!(reported().await);
        bad.repaired();
        world.eventually("all are handled", async || world.types("seat.events").len() == 46).await;
        assert_eq!(world.broker.records("seat.dlq").len(), 0);
        world.eventually("it is ready", async || world.health.waiting_for().is_empty()).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_skipped_duplicate_does_not_count_as_a_success_of_its_handler() {
    let bad = Bad::default();
    World::with(seats(&bad), async |world| {
        let good = world.record(&Booked::anew());
        world.broker.append(good.clone());
        world.eventually("it is handled", async || world.types("seat.events").len() == 1).await;
        for _ in 0..10 {
            world.publish(&bad.booked(refused));
            world.clock.sleep(Duration::from_secs(1)).await;
            world.broker.append(good.clone());
            // The compensation of what never ran calls no handler, and is another half all the same.
            world.publish(&Cancelled { id: Uuid::now_v7() });
            world.clock.sleep(Duration::from_secs(1)).await;
        }
        world.clock.sleep(Duration::from_secs(30)).await;
        assert_eq!(world.broker.records("seat.dlq").len(), 3, "then it is no longer taken for the event's fault");
        assert!(world.metrics.duplicates.get_or_create(&TAKE).get() >= 10);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn refusals_with_different_values_count_as_one_kind_and_a_success_resets_the_count() {
    let bad = Bad::default();
    World::with(seats(&bad), async |world| {
        for _ in 0..8 {
            world.publish(&bad.booked(refused));
            world.clock.sleep(Duration::from_secs(1)).await;
        }
        world.clock.sleep(Duration::from_secs(10)).await;
        assert_eq!(world.broker.records("seat.dlq").len(), 3);
        assert!(world.health.waiting_for().iter().any(|why| why.starts_with("handlers: ")));
        for _ in 0..8 {
            world.publish(&bad.booked(refused_otherwise));
            world.clock.sleep(Duration::from_secs(3)).await;
        }
        world.clock.sleep(Duration::from_secs(10)).await;
        assert_eq!(world.broker.records("seat.dlq").len(), 3, "nothing has worked in between");
        bad.repaired();
        world.eventually("the others are handled", async || world.types("seat.events").len() == 13).await;
        world.eventually("it is ready", async || world.health.waiting_for().is_empty()).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_for_all_sagas_does_not_keep_other_steps_from_their_transactions() {
    for failure in [wrong, slow, corrupt] as [Failure; 3] {
        let bad = Bad::default();
        World::with(seats(&bad), async |world| {
            for _ in 0..200 {
                world.publish(&bad.booked(failure));
                world.publish(&Cancelled { id: Uuid::now_v7() });
            }
            let began = world.clock.now();
            world.eventually("the other step goes on", async || world.types("seat.events").len() == 200).await;
            let took = world.clock.now().duration_since(began).as_secs_f64();
            assert!(took < 30.0, "{:?}: it took {took} s", failure(Uuid::nil()).1);
            let reported = || world.health.waiting_for().iter().any(|why| why.starts_with("handlers: take"));
            let reported =
                || reported() || world.health.waiting_for().iter().any(|why| why.contains("a statement of take"));
            world.eventually("readiness says why", async || reported()).await;
            // From now on, ten are tried in five seconds.
            let before = world.clock.now();
            world.publish(&Cancelled { id: Uuid::now_v7() });
            world.eventually("and stays", async || world.types("seat.events").len() == 201).await;
            let took = world.clock.now().duration_since(before).as_secs_f64();
            assert!(took < 60.0, "{:?}: one more took {took} s", failure(Uuid::nil()).1);
            bad.repaired();
            world.eventually("all are handled", async || world.types("seat.events").len() == 401).await;
            world.eventually("it is ready", async || world.health.waiting_for().is_empty()).await;
            assert_eq!(world.broker.records("seat.dlq").len(), 0);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_effect_whose_result_cannot_be_recorded_is_repeated_with_long_pauses() {
    let (bad, calls) = (Bad::default(), Arc::new(AtomicUsize::new(0)));
    let (statement, counted) = (bad.clone(), calls.clone());
    let ask = async move |_: &Call, _: &Booked| -> Result<(), StepError> {
        counted.fetch_add(1, SeqCst);
        Ok(())
    };
    let take = async move |_: &mut Cx<'_, MemoryStore>, trip: Booked, (): ()| -> StepResult<Taken, Never> {
        statement.meets(trip.id).await?;
        Ok(Outcome::Success(Taken { id: trip.id }))
    };
    let step = Step::with_effect("take", ask, take).undone_by(free);
    World::with(Participant::named("seat").step(step), async |world| {
        world.publish(&bad.booked(wrong));
        world.clock.sleep(Duration::from_secs(100)).await;
        let called = calls.load(SeqCst);
        assert!((2..=4).contains(&called), "{called} calls in 100 s");
        bad.repaired();
        world.eventually("it is handled", async || world.types("seat.events") == ["seat.taken"]).await;
    })
    .await;
}

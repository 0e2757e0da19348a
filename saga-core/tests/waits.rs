//! How long a participant waits: for its next step or for the end of the saga, and for a time that the event says; in
//! memory and virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::time::Duration;

use saga_core::{
    Never, Outcome, Participant, SagaId, Step, StepError, StepResult,
    clock::Clock,
    envelope::header,
    handler::{Call, Cx},
    store::Store,
    testing::MemoryStore,
};
use uuid::Uuid;

use self::common::World;
use common::events::events;

events! {
    Booked = "trip.booked" on "trip.events" { seconds: u64 }
    Packed = "trip.packed" on "trip.events" {}
    Left = "trip.left" on "trip.events" {}
    Cancelled = "trip.cancelled" on "trip.events" {}
    Reminded = "seat.reminded" on "seat.events" {}
    Expired = "seat.expired" on "seat.events" {}
    Over = "seat.over" on "seat.events" {}
    Freed = "seat.freed" on "seat.events" {}
}

impl From<Cancelled> for Freed {
    fn from(why: Cancelled) -> Self {
        Self { id: why.id }
    }
}

type Context<'a> = Cx<'a, MemoryStore>;

async fn book(_: &mut Context<'_>, _: Booked) -> StepResult<Never> {
    Ok(Outcome::Quiet)
}

async fn pack(_: &mut Context<'_>, _: Packed) -> StepResult<Never> {
    Ok(Outcome::Quiet)
}

async fn leave(_: &mut Context<'_>, trip: Left) -> StepResult<Over> {
    Ok(Outcome::Success(Over { id: trip.id }))
}

async fn free(_: &mut Context<'_>, why: Cancelled) -> Result<Freed, StepError> {
    Ok(why.into())
}

async fn remind(_: &mut Context<'_>, sagas: Vec<SagaId>) -> Result<Vec<Outcome<Reminded>>, StepError> {
    Ok(sagas.into_iter().map(|saga| Outcome::Success(Reminded { id: saga.as_uuid() })).collect())
}

async fn expire(_: &mut Context<'_>, sagas: Vec<SagaId>) -> Result<Vec<Outcome<Expired>>, StepError> {
    Ok(sagas.into_iter().map(|saga| Outcome::Success(Expired { id: saga.as_uuid() })).collect())
}

const MINUTE: Duration = Duration::from_secs(60);

/// Reminds after a minute without progress, and expires after two unless the trip is over.
fn seats() -> Participant<MemoryStore> {
    Participant::named("seat")
        .step(Step::new("book", book).deadline(MINUTE, remind).saga_deadline(2 * MINUTE, expire).undone_by(free))
        .step(Step::new("pack", pack))
        .step(Step::new("leave", leave))
        .completes_with::<Over>()
}

fn booked(seconds: u64) -> Booked {
    Booked { id: Uuid::now_v7(), seconds }
}

#[tokio::test(start_paused = true)]
async fn a_later_step_ends_the_wait_for_a_step_and_not_the_wait_until_the_end() {
    World::with(seats(), async |world| {
        let trip = booked(0);
        world.publish(&trip);
        world.clock.sleep(MINUTE / 2).await;
        world.publish(&Packed { id: trip.id });
        world.clock.sleep(5 * MINUTE).await;
        assert_eq!(world.types("seat.events"), ["seat.expired"]);
        assert_eq!(world.store.summary().await.unwrap().timers, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_step_may_have_both_deadlines_and_their_events_are_two() {
    World::with(seats(), async |world| {
        world.publish(&booked(0));
        world.clock.sleep(3 * MINUTE).await;
        assert_eq!(world.types("seat.events"), ["seat.reminded", "seat.expired"]);
        let ids = world.headers("seat.events", header::ID);
        assert_ne!(ids[0], ids[1]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_saga_ends_every_wait_also_one_that_would_begin_after_it() {
    World::with(seats(), async |world| {
        let (usual, reversed) = (booked(0), booked(0));
        world.publish(&usual);
        world.clock.sleep(MINUTE / 2).await;
        world.publish(&Left { id: usual.id });
        world.publish(&Left { id: reversed.id });
        world.clock.sleep(MINUTE / 2).await;
        assert_eq!(world.store.summary().await.unwrap().timers, 0);
        world.publish(&reversed);
        world.clock.sleep(5 * MINUTE).await;
        // The wait for the next step begins, as ever: its handler knows that the saga is over.
        assert_eq!(world.types("seat.events"), ["seat.over", "seat.over", "seat.reminded"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_compensation_of_a_step_ends_its_wait_until_the_end() {
    World::with(seats(), async |world| {
        let trip = booked(0);
        world.publish(&trip);
        world.clock.sleep(MINUTE / 2).await;
        world.publish(&Cancelled { id: trip.id });
        world.clock.sleep(5 * MINUTE).await;
        assert_eq!(world.types("seat.events"), ["seat.freed", "seat.reminded"], "the other wait goes on");
    })
    .await;
}

/// Books for as long as the event says.
async fn book_for(cx: &mut Context<'_>, trip: Booked) -> StepResult<Never> {
    cx.deadline(Duration::from_secs(trip.seconds));
    cx.saga_deadline(Duration::from_secs(trip.seconds * 10));
    Ok(Outcome::Quiet)
}

async fn book_all(cx: &mut Context<'_>, trips: Vec<Booked>) -> Result<Vec<Outcome<Never>>, StepError> {
    cx.saga_deadline(Duration::from_secs(1000));
    for trip in &trips {
        cx.deadline_of(saga_core::Event::saga_id(trip), Duration::from_secs(trip.seconds));
    }
    Ok(trips.iter().map(|_| Outcome::Quiet).collect())
}

async fn book_called(cx: &mut Context<'_>, trip: Booked, (): ()) -> StepResult<Never> {
    book_for(cx, trip).await
}

fn waiting<O: saga_core::handler::Emit>(step: Step<MemoryStore, Booked, O, Never>) -> Participant<MemoryStore> {
    let step = step.deadline(MINUTE, remind).saga_deadline(MINUTE, expire);
    Participant::named("seat").step(step).step(Step::new("leave", leave)).completes_with::<Over>()
}

#[tokio::test(start_paused = true)]
async fn a_handler_says_how_long_its_saga_waits() {
    let called = async |_: &Call, _: &Booked| Ok(());
    let one = Step::new("book", book_for);
    let effect = Step::with_effect("book", called, book_called);
    for participant in [waiting(one), waiting(effect)] {
        World::with(participant, async |world| {
            [30, 5].into_iter().for_each(|seconds| world.publish(&booked(seconds)));
            world.clock.sleep(Duration::from_secs(10)).await;
            assert_eq!(world.types("seat.events"), ["seat.reminded"]);
            world.clock.sleep(Duration::from_secs(30)).await;
            assert_eq!(world.types("seat.events"), ["seat.reminded", "seat.reminded"]);
            world.clock.sleep(Duration::from_secs(20)).await;
            assert_eq!(world.types("seat.events")[2..], ["seat.expired"]);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_says_it_for_each_saga_or_for_all() {
    World::with(waiting(Step::new("book", book_all)), async |world| {
        [30, 5, 7].into_iter().for_each(|seconds| world.publish(&booked(seconds)));
        world.clock.sleep(Duration::from_secs(10)).await;
        assert_eq!(world.types("seat.events").len(), 2);
        world.clock.sleep(Duration::from_secs(500)).await;
        assert_eq!(world.types("seat.events").len(), 3, "those until the end last longer");
        world.clock.sleep(Duration::from_secs(500)).await;
        assert_eq!(world.types("seat.events").len(), 6);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_not_declared_is_a_permanent_failure_that_says_what_to_add() {
    let participant = Participant::named("seat").step(Step::new("book", book_for).deadline(MINUTE, remind));
    World::with(participant, async |world| {
        world.publish(&booked(1));
        world.eventually("it is dead-lettered", async || !world.types("seat.dlq").is_empty()).await;
        let why = &world.headers("seat.dlq", "__dlq.errors.message")[0];
        assert!(why.contains("add .saga_deadline(..) to the step"), "{why}");
        assert_eq!(world.store.summary().await.unwrap().timers, 0);
    })
    .await;
}

//! Processes with different clocks on one database: the database's clock decides what is due.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use saga_core::{
    Event, Outcome, Participant, RetryPolicy, SagaId, Step, StepError, StepResult,
    clock::Clock,
    handler::Cx,
    runtime::{Handle, Options, Runtime},
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
    works: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.expired", topic = "seat.events", saga = "id")]
struct Expired {
    id: Uuid,
}

/// The number of attempts at a booking.
type Tries = Arc<AtomicUsize>;

/// A clock that is off by this much.
#[derive(Clone, Copy)]
struct Skewed(VirtualClock, SignedDuration);

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        self.0.now() + self.1
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        self.0.sleep(duration)
    }
}

/// Waits five minutes for each trip, and retries a failing booking every two minutes.
fn seats(tries: &Tries) -> Participant<MemoryStore> {
    let tries = tries.clone();
    let book = async move |_: &mut Cx<'_, MemoryStore>, trip: Booked| -> StepResult<saga_core::Never> {
        tries.fetch_add(1, Ordering::SeqCst);
        if trip.works { Ok(Outcome::Quiet) } else { Err(StepError::transient("full")) }
    };
    let expired = async |_: &mut Cx<'_, MemoryStore>, sagas: Vec<SagaId>| {
        Ok(sagas.into_iter().map(|id| Outcome::Success(Expired { id: id.as_uuid() })).collect())
    };
    let retry = RetryPolicy::fixed(Duration::from_secs(120), 10);
    Participant::named("seat").step(Step::new("book", book).deadline(Duration::from_secs(300), expired).retry(retry))
}

/// One process with a correct clock, and one with a wrong clock.
async fn with_another_process(tries: &Tries, skew: SignedDuration, test: impl AsyncFnOnce(&World)) {
    World::with(seats(tries), async |world| {
        let participant = seats(tries);
        let consumer = world.broker.subscribe("seat", &participant.declaration().consumed_topics());
        let clock = Skewed(world.clock, skew);
        let handle = Handle::new("seat", world.store.clone(), world.broker.producer(), clock);
        let run = Runtime::new(participant, handle, Options::default()).run(consumer, std::future::pending());
        tokio::select! {
            result = run => panic!("{result:?}"),
            () = test(world) => {}
        }
    })
    .await;
}

const SKEWS: [SignedDuration; 2] = [SignedDuration::from_mins(10), SignedDuration::from_mins(-10)];

#[tokio::test(start_paused = true)]
async fn a_deadline_fires_when_it_is_due_whatever_the_clocks_of_the_processes() {
    for skew in SKEWS {
        with_another_process(&Tries::default(), skew, async |world| {
            (0..20).for_each(|_| world.publish(&Booked { id: Uuid::now_v7(), works: true }));
            world.clock.sleep(Duration::from_secs(290)).await;
            assert_eq!(world.broker.records("seat.events").len(), 0, "nothing fires early: {skew:?}");
            world.clock.sleep(Duration::from_secs(20)).await;
            assert_eq!(world.broker.records("seat.events").len(), 20, "nor late: {skew:?}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_saga_is_tried_again_when_it_is_due_whatever_the_clocks_of_the_processes() {
    for skew in SKEWS {
        let tries = Tries::default();
        with_another_process(&tries, skew, async |world| {
            world.publish(&Booked { id: Uuid::now_v7(), works: false });
            world.clock.sleep(Duration::from_secs(350)).await;
            assert_eq!(tries.load(Ordering::SeqCst), 3, "at once, after two and after four minutes: {skew:?}");
        })
        .await;
    }
}

//! An effect whose retries are used up and whose void fails as well, in memory and virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use saga_core::{
    Outcome, Participant, RetryPolicy, Step, StepError, StepResult,
    clock::Clock,
    dead_letter::header::{MESSAGE, REASON},
    handler::{Call, Cx},
    store::Store,
    testing::MemoryStore,
};
use tokio::time::Instant;

use self::common::{
    World,
    trip::{Booked, Taken},
};
use common::events::events;

events! {
    Refused = "seat.refused" on "seat.events" {}
}

/// The times at which the outside system was asked to void.
type Voids = Arc<Mutex<Vec<Instant>>>;

/// An airline that never answers a booking, and voids as the test decides.
fn seats(
    voids: &Voids,
    void: impl Fn(usize) -> Result<(), StepError> + Send + Sync + 'static,
) -> Participant<MemoryStore> {
    let ask = async |_: &Call, _: &Booked| Err::<(), _>(StepError::transient("no answer"));
    async fn take(_: &mut Cx<'_, MemoryStore>, trip: Booked, (): ()) -> StepResult<Taken, Refused> {
        Ok(Outcome::Success(Taken { id: trip.id }))
    }
    let voids = voids.clone();
    let abandon = async move |_: &Call, _: &Booked| {
        let mut voids = voids.lock().unwrap();
        voids.push(Instant::now());
        void(voids.len())
    };
    let refuse = async |_: &mut Cx<'_, MemoryStore>, trip: Booked, _: &StepError| Ok(Refused { id: trip.id });
    let step = Step::with_effect("take", ask, take).when_exhausted_with_effect(abandon, refuse);
    Participant::named("seat").step(step.retry(RetryPolicy::fixed(Duration::from_millis(10), 3)))
}

#[tokio::test(start_paused = true)]
async fn a_void_that_fails_is_tried_again_after_pauses_that_grow() {
    let voids = Voids::default();
    let tenth = |count| if count < 10 { Err(StepError::transient("not now")) } else { Ok(()) };
    World::with(seats(&voids, tenth), async |world| {
        world.publish(&Booked::anew());
        let refused = async || world.types("seat.events") == ["seat.refused"];
        world.eventually("it is refused once it is voided", refused).await;
        let at = voids.lock().unwrap().clone();
        let pauses: Vec<f64> = at.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        assert_eq!(pauses.len(), 9);
        assert!(pauses[0] < 2.5, "{pauses:?}");
        assert!(pauses[8] > 10.0 && pauses[8] < 35.0, "{pauses:?}");
        assert!(pauses.windows(3).take(4).all(|three| three[0] < three[2]), "{pauses:?}");
        assert_eq!(world.broker.records("seat.dlq"), []);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_can_never_be_voided_is_dead_lettered_and_not_refused() {
    let voids = Voids::default();
    World::with(seats(&voids, |_| Err(StepError::permanent("unknown booking"))), async |world| {
        world.publish(&Booked::anew());
        let blocked = async || world.store.summary().await.unwrap().blocked_sagas == 1;
        world.eventually("its saga waits for an operator", blocked).await;
        world.clock.sleep(Duration::from_secs(120)).await;
        assert_eq!(voids.lock().unwrap().len(), 1, "the void is not repeated");
        assert_eq!(world.headers("seat.dlq", REASON), ["permanent"]);
        let messages = world.headers("seat.dlq", MESSAGE);
        assert!(messages[0].contains("cannot be voided") && messages[0].contains("unknown booking"), "{messages:?}");
        assert_eq!(world.types("seat.events"), Vec::<String>::new(), "the effect may have happened");
    })
    .await;
}

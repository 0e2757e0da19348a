//! Set-based handlers that name the events that fail.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use common::{
    World,
    trip::{Booked, Taken},
};
use saga_core::{
    Outcome, Participant, Step, StepError, envelope::header, handler::Cx, store::StoreError, testing::MemoryStore,
};
use uuid::Uuid;

/// Takes seats for all trips except these, which it rejects by name or lets fail with the whole set. Records the size
/// of each set.
fn seats(bad: Vec<Uuid>, names: bool, sets: Arc<Mutex<Vec<usize>>>) -> Participant<MemoryStore> {
    let take = async move |cx: &mut Cx<'_, MemoryStore>, trips: Vec<Booked>| {
        sets.lock().unwrap().push(trips.len());
        for (place, trip) in trips.iter().enumerate() {
            if bad.contains(&trip.id) {
                let error = StepError::permanent("no such seat");
                if !names {
                    return Err(error);
                }
                cx.reject(place, error);
            }
        }
        Ok(trips.into_iter().map(|trip| Outcome::<Taken>::Success(Taken { id: trip.id })).collect())
    };
    Participant::named("seat").step(Step::new("take", take))
}

/// The sizes of the sets that the handler was called with, when two of forty events fail.
async fn sets(names: bool) -> Vec<usize> {
    let trips: Vec<Booked> = (0..40).map(|_| Booked::anew()).collect();
    let bad = vec![trips[7].id, trips[31].id];
    let seen = Arc::new(Mutex::new(Vec::new()));
    World::with(seats(bad.clone(), names, seen.clone()), async |world| {
        trips.iter().for_each(|trip| world.publish(trip));
        world
            .eventually("all is decided", async || {
                world.types("seat.events").len() == 38 && world.types("seat.dlq").len() == 2
            })
            .await;
        let mut dead = world.headers("seat.dlq", header::SUBJECT);
        dead.sort();
        let mut expected: Vec<String> = bad.iter().map(Uuid::to_string).collect();
        expected.sort();
        assert_eq!(dead, expected);
    })
    .await;
    let sets = seen.lock().unwrap();
    sets.clone()
}

#[tokio::test(start_paused = true)]
async fn the_events_that_a_handler_names_are_set_aside_and_the_others_run_once_more_together() {
    assert_eq!(sets(true).await, [40, 38]);
}

#[tokio::test(start_paused = true)]
async fn a_set_whose_handler_names_no_event_is_bisected() {
    let divided = sets(false).await;
    assert!(divided.len() > 8 && divided.contains(&20) && divided.contains(&1), "{divided:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_names_an_event_it_was_not_given_fails_for_all_and_loses_none() {
    let fails = Arc::new(AtomicBool::new(true));
    let once = fails.clone();
    let take = async move |cx: &mut Cx<'_, MemoryStore>, trips: Vec<Booked>| {
        if once.load(SeqCst) {
            cx.reject(trips.len(), StepError::transient("which one?"));
        }
        Ok(trips.into_iter().map(|trip| Outcome::<Taken>::Success(Taken { id: trip.id })).collect())
    };
    World::with(Participant::named("seat").step(Step::new("take", take)), async |world| {
        (0..3).for_each(|_| world.publish(&Booked::anew()));
        world.eventually("all are dead-lettered", async || world.types("seat.dlq").len() == 3).await;
        assert_eq!(world.types("seat.events").len(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_for_one_event_names_no_other_than_its_own() {
    let trips: Vec<Booked> = (0..5).map(|_| Booked::anew()).collect();
    let bad = trips[3].id;
    let take = async move |cx: &mut Cx<'_, MemoryStore>, trip: Booked| {
        if trip.id == bad {
            cx.reject(0, StepError::permanent("no such seat"));
        }
        Ok(Outcome::<Taken>::Success(Taken { id: trip.id }))
    };
    World::with(Participant::named("seat").step(Step::new("take", take)), async |world| {
        trips.iter().for_each(|trip| world.publish(trip));
        world.eventually("all is decided", async || world.types("seat.events").len() == 4).await;
        assert_eq!(world.headers("seat.dlq", header::SUBJECT), [bad.to_string()]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_the_database_says_is_no_events_fault_because_a_handler_names_it() {
    let tries = Arc::new(Mutex::new(0));
    let count = tries.clone();
    let take = async move |cx: &mut Cx<'_, MemoryStore>, trips: Vec<Booked>| {
        let mut tries = count.lock().unwrap();
        *tries += 1;
        if *tries == 1 {
            (0..trips.len()).for_each(|place| cx.reject(place, StoreError::Unavailable("gone".to_owned()).into()));
        }
        Ok(trips.into_iter().map(|trip| Outcome::<Taken>::Success(Taken { id: trip.id })).collect())
    };
    World::with(Participant::named("seat").step(Step::new("take", take)), async |world| {
        (0..3).for_each(|_| world.publish(&Booked::anew()));
        world.eventually("all are taken", async || world.types("seat.events").len() == 3).await;
        assert!(world.types("seat.dlq").is_empty());
        let label = saga_core::runtime::StepLabel { step: "take", op: "action" };
        assert_eq!(world.metrics.retries.get_or_create(&label).get(), 0, "no attempt is used up");
    })
    .await;
}

//! Effects of compensations that need what their step stored, in memory and virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::sync::{Arc, Mutex};

use saga_core::{
    Outcome, Participant, Step, StepError, StepResult,
    dead_letter::header::REASON,
    handler::{Call, Cx},
    runtime::{Handle, Options, Runtime},
    store::Store,
    testing::{MemoryBroker, MemoryStore, VirtualClock},
};
use uuid::Uuid;

use self::common::{
    World, eventually, record,
    trip::{Booked, Cancelled, Freed, Taken},
};

/// What the airline was asked to give back: the key of the call, and the ticket.
type GivenBack = Arc<Mutex<Vec<(Uuid, Option<String>)>>>;

async fn sell(_: &Call, trip: &Booked) -> Result<String, StepError> {
    Ok(format!("ticket of {}", trip.id))
}

async fn take(cx: &mut Cx<'_, MemoryStore>, trip: Booked, ticket: String) -> StepResult<Taken> {
    cx.tx().put("ticket", &ticket);
    Ok(Outcome::Success(Taken { id: trip.id }))
}

async fn ticket(cx: &mut Cx<'_, MemoryStore>, _: &Cancelled) -> Result<Option<String>, StepError> {
    let read: u32 = cx.tx().get("read").unwrap_or(0);
    cx.tx().put("read", &(read + 1));
    match cx.tx().get::<String>("ticket") {
        Some(ticket) if ticket == "locked away" => Err(StepError::transient(ticket)),
        Some(ticket) if ticket == "unreadable" => Err(StepError::permanent(ticket)),
        Some(ticket) if ticket == "a defect" => panic!("{ticket}"),
        ticket => Ok(ticket),
    }
}

async fn free(_: &mut Cx<'_, MemoryStore>, why: Cancelled) -> Result<Freed, StepError> {
    Ok(why.into())
}

/// The airline takes a ticket back as it is told to by the number of the call.
fn seats(
    given_back: &GivenBack,
    answer: impl AsyncFn(usize) -> Result<(), StepError> + Send + Sync + 'static,
) -> Participant<MemoryStore> {
    let given_back = given_back.clone();
    let give_back = async move |call: &Call, _: &Cancelled, ticket: &Option<String>| {
        let calls = {
            let mut given_back = given_back.lock().unwrap();
            given_back.push((call.idempotency_key, ticket.clone()));
            given_back.len()
        };
        answer(calls).await
    };
    Participant::named("seat")
        .step(Step::with_effect("take", sell, take).undone_with_prepared_effect(ticket, give_back, free))
}

#[tokio::test(start_paused = true)]
async fn the_effect_of_a_compensation_gets_what_the_step_stored() {
    let given_back = GivenBack::default();
    World::with(seats(&given_back, async |_| Ok(())), async |world| {
        let trip = Booked::anew();
        world.publish(&trip);
        world.eventually("it is taken", async || world.types("seat.events") == ["seat.taken"]).await;
        world.publish(&Cancelled { id: trip.id });
        world.eventually("it is freed", async || world.types("seat.events") == ["seat.taken", "seat.freed"]).await;
        let given_back = given_back.lock().unwrap().clone();
        assert_eq!(given_back.len(), 1);
        assert_eq!(given_back[0].1, Some(format!("ticket of {}", trip.id)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_an_effect_needs_is_read_again_whenever_it_is_called_again() {
    let given_back = GivenBack::default();
    let second = async |call| if call == 1 { Err(StepError::transient("not now")) } else { Ok(()) };
    World::with(seats(&given_back, second), async |world| {
        let trip = Booked::anew();
        world.publish(&trip);
        world.eventually("it is taken", async || world.types("seat.events") == ["seat.taken"]).await;
        world.publish(&Cancelled { id: trip.id });
        world.eventually("it is called", async || given_back.lock().unwrap().len() == 1).await;
        world.store.put("ticket", &"changed").await;
        world.eventually("it is freed", async || world.types("seat.events").len() == 2).await;
        let given_back = given_back.lock().unwrap().clone();
        assert_eq!(given_back[1].1, Some("changed".to_owned()));
        assert_eq!(given_back[0].0, given_back[1].0, "under the same key");
    })
    .await;
}

/// Runs the participant until the test is over, and then as a crash ends it: nothing is flushed, committed or told.
async fn alive(
    (broker, store, clock): (&MemoryBroker, &MemoryStore, VirtualClock),
    participant: Participant<MemoryStore>,
    test: impl AsyncFnOnce(),
) {
    let handle = Handle::new(participant.name(), store.clone(), broker.producer(), clock);
    let consumer = broker.subscribe(participant.name(), &participant.declaration().consumed_topics());
    let run = Runtime::new(participant, handle, Options::default()).run(consumer, std::future::pending());
    tokio::select! {
        result = run => panic!("{result:?}"),
        () = test() => {}
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_between_its_start_and_its_end_an_effect_is_prepared_anew_and_called_under_the_same_key() {
    let (broker, store, clock) = (MemoryBroker::new(1), MemoryStore::default(), VirtualClock::start());
    let world = (&broker, &store, clock);
    let (given_back, trip) = (GivenBack::default(), Booked::anew());
    let published = |count| broker.records("seat.events").len() == count;
    let never = async |_| std::future::pending().await;
    alive(world, seats(&given_back, never), async || {
        broker.append(record(&trip, clock));
        eventually(clock, "it is taken", async || published(1)).await;
        broker.append(record(&Cancelled { id: trip.id }, clock));
        eventually(clock, "the effect is called", async || given_back.lock().unwrap().len() == 1).await;
    })
    .await;
    store.put("ticket", &"changed").await;
    alive(world, seats(&given_back, async |_| Ok(())), async || {
        eventually(clock, "it is freed", async || published(2)).await;
    })
    .await;
    let given_back = given_back.lock().unwrap().clone();
    assert_eq!(given_back.len(), 2);
    assert_eq!(given_back[0].1, Some(format!("ticket of {}", trip.id)));
    assert_eq!(given_back[1].1, Some("changed".to_owned()));
    assert_eq!(given_back[0].0, given_back[1].0, "under the same key");
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_cannot_be_prepared_yet_is_not_called_until_it_can() {
    let given_back = GivenBack::default();
    World::with(seats(&given_back, async |_| Ok(())), async |world| {
        let trip = Booked::anew();
        world.publish(&trip);
        world.eventually("it is taken", async || world.types("seat.events") == ["seat.taken"]).await;
        world.store.put("ticket", &"locked away").await;
        world.publish(&Cancelled { id: trip.id });
        world.eventually("it waits", async || world.store.summary().await.unwrap().parked_sagas == 1).await;
        assert_eq!(*given_back.lock().unwrap(), []);
        world.store.put("ticket", &"found").await;
        world.eventually("it is freed", async || world.types("seat.events").len() == 2).await;
        assert_eq!(given_back.lock().unwrap()[0].1, Some("found".to_owned()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_can_never_be_prepared_is_a_dead_letter_and_is_not_called() {
    for (ticket, message) in [("unreadable", "unreadable"), ("a defect", "panicked")] {
        let given_back = GivenBack::default();
        World::with(seats(&given_back, async |_| Ok(())), async |world| {
            let trip = Booked::anew();
            world.publish(&trip);
            world.eventually("it is taken", async || world.types("seat.events") == ["seat.taken"]).await;
            world.store.put("ticket", &ticket).await;
            world.publish(&Cancelled { id: trip.id });
            let blocked = async || world.store.summary().await.unwrap().blocked_sagas == 1;
            world.eventually("its saga waits for an operator", blocked).await;
            assert_eq!(world.headers("seat.dlq", REASON), ["permanent"]);
            let said = &world.headers("seat.dlq", saga_core::dead_letter::header::MESSAGE)[0];
            assert!(said.contains(message), "{said}");
            assert_eq!(*given_back.lock().unwrap(), []);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_null_compensation_reads_nothing_and_calls_nothing() {
    let given_back = GivenBack::default();
    World::with(seats(&given_back, async |_| Ok(())), async |world| {
        world.publish(&Cancelled { id: Uuid::now_v7() });
        world.eventually("it is freed", async || world.types("seat.events") == ["seat.freed"]).await;
        assert_eq!(world.store.get::<u32>("read").await, None);
        assert_eq!(*given_back.lock().unwrap(), []);
    })
    .await;
}

//! Panics in a participant's own code outside a handler: each fails only its own event.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::{fmt, time::Duration};

use saga_core::{
    Event, Outcome, Participant, RetryPolicy, Step, StepError, StepResult, dead_letter,
    envelope::header,
    event::{DecodeError, EventType, SagaId, Trigger},
    handler::Cx,
    store::Store,
    testing::MemoryStore,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use self::common::World;

/// Part of the data; it must appear nowhere else.
const SECRET: &str = "4111-1111";

fn mood<'de, D: Deserializer<'de>>(data: D) -> Result<String, D::Error> {
    let mood = String::deserialize(data)?;
    assert_ne!(mood, format!("decode {SECRET}"), "a defect of a type's own code");
    Ok(mood)
}

fn check(trip: &Booked) -> Result<(), String> {
    assert_ne!(trip.mood, format!("validate {SECRET}"), "a defect of a rule");
    Ok(())
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "trip.booked", topic = "trip.events", saga = "id", validate = "check")]
struct Booked {
    id: Uuid,
    #[serde(deserialize_with = "mood")]
    mood: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "trip.cancelled", topic = "trip.events", saga = "id")]
struct Cancelled {
    id: Uuid,
    mood: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.taken", topic = "seat.events", saga = "id")]
struct Taken {
    id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "seat.freed", topic = "seat.events", saga = "id")]
struct Freed {
    id: Uuid,
}

impl From<Cancelled> for Freed {
    fn from(why: Cancelled) -> Self {
        assert_eq!(why.mood, "fine", "a defect of what makes the event of a null compensation");
        Self { id: why.id }
    }
}

/// `trip.booked`, implemented by hand: its `saga_id` panics.
#[derive(Clone)]
struct Careless(Booked);

impl Trigger for Careless {
    fn event_types() -> Vec<EventType> {
        Booked::event_types()
    }

    fn decode(name: &str, version: u32, data: &[u8]) -> Result<Self, DecodeError> {
        Booked::decode(name, version, data).map(Self)
    }

    fn saga_id(&self) -> SagaId {
        assert_ne!(self.0.mood, format!("saga_id {SECRET}"), "a defect of a trigger");
        Event::saga_id(&self.0)
    }
}

async fn take(_: &mut Cx<'_, MemoryStore>, Careless(trip): Careless) -> StepResult<Taken> {
    match trip.mood.as_str() {
        "fine" => Ok(Outcome::Success(Taken { id: trip.id })),
        _ => Err(StepError::transient("no seat").caused_by(Unspeakable)),
    }
}

async fn free(_: &mut Cx<'_, MemoryStore>, why: Cancelled) -> Result<Freed, StepError> {
    Ok(why.into())
}

/// An error whose `Display` panics.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("a defect of an error")
    }
}

impl std::error::Error for Unspeakable {}

fn seats(retry: RetryPolicy) -> Participant<MemoryStore> {
    Participant::named("seat").step(Step::new("take", take).undone_by(free).retry(retry))
}

fn booked(mood: impl Into<String>) -> Booked {
    Booked { id: Uuid::now_v7(), mood: mood.into() }
}

#[tokio::test(start_paused = true)]
async fn data_on_which_a_types_own_code_panics_is_dead_lettered_and_the_partition_moves_on() {
    World::with(seats(RetryPolicy::NONE), async |world| {
        for code in ["decode", "validate", "saga_id"] {
            world.publish(&booked(format!("{code} {SECRET}")));
        }
        world.publish(&booked("fine"));
        world.eventually("the one behind is handled", async || world.types("seat.events") == ["seat.taken"]).await;
        world.eventually("all is committed", async || world.broker.is_caught_up("seat")).await;
        assert_eq!(world.headers("seat.dlq", dead_letter::header::REASON), ["invalid"; 3]);
        for message in world.headers("seat.dlq", dead_letter::header::MESSAGE) {
            assert!(message.contains("panicked") && !message.contains(SECRET), "{message}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_null_compensation_whose_event_cannot_be_made_blocks_only_its_own_saga() {
    World::with(seats(RetryPolicy::NONE), async |world| {
        world.publish(&Cancelled { id: Uuid::now_v7(), mood: SECRET.to_owned() });
        world.publish(&Cancelled { id: Uuid::now_v7(), mood: "fine".to_owned() });
        world.eventually("the other is compensated", async || world.types("seat.events") == ["seat.freed"]).await;
        assert_eq!(world.headers("seat.events", header::NULL_COMPENSATION), ["true"]);
        let blocked = async || world.store.summary().await.unwrap().blocked_sagas == 1;
        world.eventually("its saga waits for an operator", blocked).await;
        assert_eq!(world.headers("seat.dlq", dead_letter::header::REASON), ["permanent"]);
        let messages = world.headers("seat.dlq", dead_letter::header::MESSAGE);
        assert!(messages[0].contains("panicked") && !messages[0].contains(SECRET), "{messages:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_panics_allows_no_further_attempt_and_an_error_that_panics_is_dead_lettered_without_its_cause() {
    let policy = RetryPolicy::custom(|failed| match failed {
        1 => Some(Duration::from_millis(10)),
        _ => panic!("a defect of a policy"),
    });
    World::with(seats(policy), async |world| {
        world.publish(&booked("unspeakable"));
        world.publish(&booked("fine"));
        world.eventually("the other is handled", async || world.types("seat.events") == ["seat.taken"]).await;
        let letters = async || world.broker.records("seat.dlq").len() == 1;
        world.eventually("it is dead-lettered", letters).await;
        assert_eq!(world.headers("seat.dlq", dead_letter::header::REASON), ["retries_exhausted"]);
        assert_eq!(world.headers("seat.dlq", dead_letter::header::ATTEMPTS), ["2"]);
        let messages = world.headers("seat.dlq", dead_letter::header::MESSAGE);
        assert!(messages[0].starts_with("no seat"), "{messages:?}");
    })
    .await;
}

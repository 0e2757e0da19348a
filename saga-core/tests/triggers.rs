//! A compensation that several events start: its handler is handed the event that it publishes, made from whichever it was.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use saga_core::{
    Event, Outcome, Participant, Step, StepError, StepResult,
    graph::Rule,
    handler::Cx,
    testing::{MemoryStore, Scenario},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "trip.requested", topic = "trip.events", saga = "trip_id")]
struct TripRequested {
    trip_id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "flight.reserved", topic = "flight.events", saga = "trip_id")]
struct FlightReserved {
    trip_id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "hotel.rejected", topic = "hotel.events", saga = "trip_id")]
struct HotelRejected {
    trip_id: Uuid,
    reason: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "payment.declined", topic = "payment.events", saga = "trip_id")]
struct PaymentDeclined {
    trip_id: Uuid,
    reason: String,
    /// Of no interest to the flight.
    amount_cents: i64,
}

/// Called otherwise by its producer, and so taken over by hand.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "payment.refunded", topic = "payment.events", saga = "trip")]
struct PaymentRefunded {
    trip: Uuid,
    why: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "flight.released", topic = "flight.events", saga = "trip_id", from(HotelRejected, PaymentDeclined))]
struct FlightReleased {
    trip_id: Uuid,
    reason: String,
}

impl From<PaymentRefunded> for FlightReleased {
    fn from(event: PaymentRefunded) -> Self {
        Self { trip_id: event.trip, reason: event.why }
    }
}

async fn reserve(cx: &mut Cx<'_, MemoryStore>, trip: TripRequested) -> StepResult<FlightReserved> {
    cx.tx().put("seats", &1);
    Ok(Outcome::Success(FlightReserved { trip_id: trip.trip_id }))
}

async fn release(cx: &mut Cx<'_, MemoryStore>, released: FlightReleased) -> Result<FlightReleased, StepError> {
    cx.tx().put("seats", &0);
    Ok(released)
}

fn flight() -> Participant<MemoryStore> {
    let step = Step::new("reserve", reserve).undone_by(release);
    Participant::named("flight").step(step.on::<(HotelRejected, PaymentDeclined, PaymentRefunded)>())
}

const ID: Uuid = Uuid::from_u128(1);

async fn released_by<E: Event>(event: E, reason: &str) {
    let expected = Some(FlightReleased { trip_id: ID, reason: reason.to_owned() });
    let published =
        Scenario::new(flight(), MemoryStore::default()).given(&TripRequested { trip_id: ID }).when(&event).await;
    assert_eq!(published[0].read(), expected);
    assert!(!published[0].null_compensation);
    let null = Scenario::new(flight(), MemoryStore::default()).when(&event).await;
    assert_eq!(null[0].read(), expected, "also when there is nothing to undo");
    assert!(null[0].null_compensation);
}

#[tokio::test(start_paused = true)]
async fn any_of_the_events_that_it_names_starts_a_compensation() {
    released_by(HotelRejected { trip_id: ID, reason: "full".to_owned() }, "full").await;
    released_by(PaymentDeclined { trip_id: ID, reason: "card".to_owned(), amount_cents: 900 }, "card").await;
    released_by(PaymentRefunded { trip: ID, why: "called off".to_owned() }, "called off").await;
}

#[test]
fn the_declaration_says_what_starts_it() {
    let declaration = flight().declaration();
    let compensation = declaration.steps[0].compensation.as_ref().unwrap();
    let triggers: Vec<_> = compensation.triggers.iter().map(|event| event.name).collect();
    assert_eq!(triggers, ["hotel.rejected", "payment.declined", "payment.refunded"]);
    assert_eq!(compensation.event.name, "flight.released");
    assert_eq!(declaration.check(), []);
}

#[test]
fn a_compensation_that_names_no_event_does_not_start() {
    let forgotten = Participant::named("flight").step(Step::new("reserve", reserve).undone_by(release));
    let findings = forgotten.build().err().unwrap();
    assert_eq!(findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [Rule::StepsDoNotCycle]);
    assert!(findings[0].message.contains(".on::<(..)>()"), "{}", findings[0].message);
}

//! A flow's own `saga`: `cargo run -p saga-tools --example own_saga -- graph`. `main` is all that it takes.

use std::process::ExitCode;

use saga_core::{
    Event, Never, Outcome, Participant, Step, StepResult, graph::Choreography, handler::Cx, testing::MemoryStore,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "trip.requested", topic = "trip.events", saga = "trip_id")]
struct TripRequested {
    trip_id: Uuid,
    seats: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "flight.reserved", topic = "flight.events", saga = "trip_id")]
struct FlightReserved {
    trip_id: Uuid,
}

async fn reserve(_: &mut Cx<'_, MemoryStore>, trip: TripRequested) -> StepResult<FlightReserved, Never> {
    Ok(Outcome::Success(FlightReserved { trip_id: trip.trip_id }))
}

fn trip() -> Participant<MemoryStore> {
    Participant::named("trip").publishes::<TripRequested>().completes_with::<FlightReserved>()
}

fn flight() -> Participant<MemoryStore> {
    Participant::named("flight").step(Step::new("reserve", reserve))
}

fn main() -> ExitCode {
    saga_tools::main(Choreography::of(vec![trip().declaration(), flight().declaration()]))
}

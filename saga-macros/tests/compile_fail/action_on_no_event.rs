//! An error: an action on no event.

#[path = "common/trip.rs"]
mod trip;

use saga::{prelude::*, testing::MemoryStore};
use trip::*;

#[derive(Clone)]
struct Request {
    trip_id: Uuid,
}

async fn reserve_on_request(_: &mut Cx<'_, MemoryStore>, trip: Request) -> StepResult<FlightReserved> {
    Ok(Outcome::Success(FlightReserved { trip_id: trip.trip_id }))
}

fn main() {
    let step: Step<MemoryStore, Request, FlightReserved, Never> = Step::new("reserve", reserve_on_request);
    let _ = Participant::named("flight").step(step);
}

//! An error: an action without context.

#[path = "common/trip.rs"]
mod trip;

use saga::{prelude::*, testing::MemoryStore};
use trip::*;

async fn reserve_outside(_: &mut MemoryStore, trip: TripRequested) -> StepResult<FlightReserved> {
    Ok(Outcome::Success(FlightReserved { trip_id: trip.trip_id }))
}

fn main() {
    let _ = Participant::<MemoryStore>::named("flight").step(Step::new("reserve", reserve_outside));
}

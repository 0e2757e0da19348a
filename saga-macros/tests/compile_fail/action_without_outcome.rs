//! An error: an action without outcome.

#[path = "common/trip.rs"]
mod trip;

use saga::{prelude::*, testing::MemoryStore};
use trip::*;

async fn reserve_always(_: &mut Cx<'_, MemoryStore>, trip: TripRequested) -> Result<FlightReserved, StepError> {
    Ok(FlightReserved { trip_id: trip.trip_id })
}

fn main() {
    let _ = Participant::<MemoryStore>::named("flight").step(Step::new("reserve", reserve_always));
}

//! An error: an action that is not async.

#[path = "common/trip.rs"]
mod trip;

use saga::{prelude::*, testing::MemoryStore};
use trip::*;

fn reserve_at_once(_: &mut Cx<'_, MemoryStore>, trip: TripRequested) -> StepResult<FlightReserved> {
    Ok(Outcome::Success(FlightReserved { trip_id: trip.trip_id }))
}

fn main() {
    let _ = Participant::<MemoryStore>::named("flight").step(Step::new("reserve", reserve_at_once));
}

//! An error: an action after an effect with another answer.

#[path = "common/trip.rs"]
mod trip;

use saga::{prelude::*, testing::MemoryStore};
use trip::*;

async fn book(_: &Call, _: &TripRequested) -> Result<String, StepError> {
    Ok("a booking".to_owned())
}

async fn note(_: &mut Cx<'_, MemoryStore>, trip: TripRequested, _: i64) -> StepResult<FlightReserved> {
    Ok(Outcome::Success(FlightReserved { trip_id: trip.trip_id }))
}

fn main() {
    let _ = Participant::<MemoryStore>::named("flight").step(Step::with_effect("reserve", book, note));
}

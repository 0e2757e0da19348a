//! An error: a step publishes what is no event.

#[path = "common/trip.rs"]
mod trip;

use saga::{prelude::*, testing::MemoryStore};
use trip::*;

struct Reserved {
    trip_id: Uuid,
}

async fn reserve_silently(_: &mut Cx<'_, MemoryStore>, trip: TripRequested) -> StepResult<Reserved> {
    Ok(Outcome::Success(Reserved { trip_id: trip.trip_id }))
}

fn main() {
    let step: Step<MemoryStore, TripRequested, Reserved, Never> = Step::new("reserve", reserve_silently);
}

//! An error: a compensation with an outcome.

#[path = "common/trip.rs"]
mod trip;

use saga::{prelude::*, testing::MemoryStore};
use trip::*;

async fn release_or_not(_: &mut Cx<'_, MemoryStore>, why: HotelRejected) -> StepResult<FlightReleased> {
    Ok(Outcome::Success(why.into()))
}

fn main() {
    let _ = Step::new("reserve", reserve).undone_by(release_or_not);
}

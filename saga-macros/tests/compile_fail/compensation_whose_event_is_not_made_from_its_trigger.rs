//! An error: a compensation whose event is not made from its trigger.

#[path = "common/trip.rs"]
mod trip;

use saga::{prelude::*, testing::MemoryStore};
use trip::*;

async fn release_declined(_: &mut Cx<'_, MemoryStore>, why: PaymentDeclined) -> Result<FlightReleased, StepError> {
    Ok(FlightReleased { trip_id: why.trip_id })
}

fn main() {
    let _ = Step::new("reserve", reserve).undone_by(release_declined);
}

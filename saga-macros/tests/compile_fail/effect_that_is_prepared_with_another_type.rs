//! An error: an effect that is prepared with another type.

#[path = "common/trip.rs"]
mod trip;

use saga::{prelude::*, testing::MemoryStore};
use trip::*;

async fn seat(_: &mut Cx<'_, MemoryStore>, _: &FlightReleased) -> Result<i64, StepError> {
    Ok(7)
}

async fn give_back(_: &Call, _: &FlightReleased, _: &String) -> Result<(), StepError> {
    Ok(())
}

fn main() {
    let _ = Step::new("reserve", reserve).undone_with_prepared_effect(seat, give_back, release);
}

//! An error: `saga_data` with arguments.

use saga::prelude::*;

#[saga_data(name = "trip.requested")]
struct TripRequested {
    trip_id: Uuid,
}

fn main() {}

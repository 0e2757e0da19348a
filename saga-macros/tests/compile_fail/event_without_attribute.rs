//! An error: an event without attribute.

use saga::prelude::*;

#[derive(Event)]
struct TripRequested {
    trip_id: Uuid,
}

fn main() {}

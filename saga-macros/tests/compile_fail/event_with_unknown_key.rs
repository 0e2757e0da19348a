//! An error: an event with unknown key.

use saga::prelude::*;

#[saga_event(name = "trip.requested", topic = "trip.events", key = "trip_id")]
struct TripRequested {
    trip_id: Uuid,
}

fn main() {}

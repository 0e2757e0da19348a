//! An error: an event name without dot.

use saga::prelude::*;

#[saga_event(name = "TripRequested", topic = "trip.events", saga = "trip_id")]
struct TripRequested {
    trip_id: Uuid,
}

fn main() {}

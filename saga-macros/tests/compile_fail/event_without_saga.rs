//! An error: an event without saga.

use saga::prelude::*;

#[saga_event(name = "trip.requested", topic = "trip.events")]
struct TripRequested {
    trip_id: Uuid,
}

fn main() {}

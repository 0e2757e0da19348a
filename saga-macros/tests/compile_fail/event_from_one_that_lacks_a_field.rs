//! An error: an event from one that lacks a field.

use saga::prelude::*;

#[saga_event(name = "hotel.rejected", topic = "hotel.events", saga = "trip_id")]
struct HotelRejected {
    trip_id: Uuid,
}

#[saga_event(name = "flight.released", topic = "flight.events", saga = "trip_id", from(HotelRejected))]
struct FlightReleased {
    trip_id: Uuid,
    reason: String,
}

fn main() {}

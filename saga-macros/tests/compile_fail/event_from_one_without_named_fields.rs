//! An error: an event from one without named fields.

#[path = "common/trip.rs"]
mod trip;

use saga::prelude::*;

#[derive(Clone, Debug, Event)]
#[event(name = "seat.released", topic = "seat.events", saga = "trip_id", from(trip::HotelRejected))]
struct SeatReleased(Uuid);

fn main() {}

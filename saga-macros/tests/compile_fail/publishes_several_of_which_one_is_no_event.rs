//! An error: a step publishes several, of which one is no event.

#[path = "common/trip.rs"]
mod trip;

use saga::prelude::*;
use trip::*;

struct HotelReserved {
    trip_id: Uuid,
}

fn published(_: impl Emit) {}

fn main() {
    let trip_id = Uuid::nil();
    published((FlightReserved { trip_id }, HotelReserved { trip_id }));
}

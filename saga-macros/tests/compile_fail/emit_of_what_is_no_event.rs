//! An error: an emit whose variant holds what is no event.

#[path = "common/trip.rs"]
mod trip;

use saga::prelude::*;
use trip::*;

struct HotelReserved {
    trip_id: Uuid,
}

#[derive(Emit)]
enum Plan {
    Fly(FlightReserved),
    Stay(HotelReserved),
}

fn main() {}

//! An error: an emit with two events in one variant that is no tuple.

#[path = "common/trip.rs"]
mod trip;

use saga::prelude::*;
use trip::*;

#[derive(Emit)]
enum Plan {
    Both(FlightReserved, HotelRejected),
}

fn main() {}

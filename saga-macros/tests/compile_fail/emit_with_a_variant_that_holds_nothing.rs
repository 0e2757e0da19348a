//! An error: an emit with a variant that holds nothing.

#[path = "common/trip.rs"]
mod trip;

use saga::prelude::*;
use trip::*;

#[derive(Emit)]
enum Plan {
    Fly(FlightReserved),
    Stay,
}

fn main() {}

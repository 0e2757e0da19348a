//! An error: an emit that is a struct.

#[path = "common/trip.rs"]
mod trip;

use saga::prelude::*;
use trip::*;

#[derive(Emit)]
struct Plan(FlightReserved);

fn main() {}

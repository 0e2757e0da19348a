//! An error: a trigger that is a struct.

#[path = "common/trip.rs"]
mod trip;

use saga::prelude::*;
use trip::*;

#[derive(Clone, Debug, Trigger)]
struct CalledOff(HotelRejected);

fn main() {}

//! An error: a trigger of two events in one variant.

#[path = "common/trip.rs"]
mod trip;

use saga::prelude::*;
use trip::*;

#[derive(Clone, Debug, Trigger)]
enum CalledOff {
    Both(HotelRejected, PaymentDeclined),
}

fn main() {}

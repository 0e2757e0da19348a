//! An error: `on` names an event that is not taken over.

#[path = "common/trip.rs"]
mod trip;

use saga::{prelude::*, testing::MemoryStore};
use trip::*;

fn main() {
    let _ = Step::new("reserve", reserve).undone_by(release).on::<(HotelRejected, PaymentDeclined)>();
    let _: Option<MemoryStore> = None;
}

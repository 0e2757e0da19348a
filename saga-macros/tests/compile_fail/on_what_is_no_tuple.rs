//! An error: `on` is given what is no tuple.

#[path = "common/trip.rs"]
mod trip;

use saga::{prelude::*, testing::MemoryStore};
use trip::*;

fn main() {
    let _ = Step::new("reserve", reserve).undone_by(release).on::<HotelRejected>();
    let _: Option<MemoryStore> = None;
}

use saga::prelude::*;

#[derive(Event)]
struct TripRequested {
    trip_id: Uuid,
}

fn main() {}

//! The events that the flight consumes and publishes; in a flow of several services they are a crate that all depend on.

#![allow(unreachable_pub, reason = "as in a crate of their own")]

use saga::prelude::*;

#[saga_event(name = "trip.requested", topic = "trip.events", saga = "trip_id")]
pub struct TripRequested {
    pub trip_id: Uuid,
    pub seats: i64,
}

#[saga_event(name = "hotel.rejected", topic = "hotel.events", saga = "trip_id")]
pub struct HotelRejected {
    pub trip_id: Uuid,
    pub reason: String,
}

#[saga_event(name = "payment.declined", topic = "payment.events", saga = "trip_id")]
pub struct PaymentDeclined {
    pub trip_id: Uuid,
    pub reason: String,
}

#[saga_event(name = "payment.refunded", topic = "payment.events", saga = "trip_id")]
pub struct PaymentRefunded {
    pub trip_id: Uuid,
    pub reason: String,
}

#[saga_event(name = "flight.reserved", topic = "flight.events", saga = "trip_id")]
pub struct FlightReserved {
    pub trip_id: Uuid,
}

#[saga_event(name = "flight.rejected", topic = "flight.events", saga = "trip_id")]
pub struct FlightRejected {
    pub trip_id: Uuid,
    pub reason: String,
}

/// `from`: whatever the compensation was started by, its fields are taken over by their names.
#[saga_event(
    name = "flight.released",
    topic = "flight.events",
    saga = "trip_id",
    from(HotelRejected, PaymentDeclined, PaymentRefunded)
)]
pub struct FlightReleased {
    pub trip_id: Uuid,
    pub reason: String,
}

//! The events of a trip, for what is wrong about its handlers.

use saga::prelude::*;

#[saga_event(name = "trip.requested", topic = "trip.events", saga = "trip_id")]
pub struct TripRequested {
    pub trip_id: Uuid,
}

#[saga_event(name = "hotel.rejected", topic = "hotel.events", saga = "trip_id")]
pub struct HotelRejected {
    pub trip_id: Uuid,
}

#[saga_event(name = "payment.declined", topic = "payment.events", saga = "trip_id")]
pub struct PaymentDeclined {
    pub trip_id: Uuid,
}

#[saga_event(name = "flight.reserved", topic = "flight.events", saga = "trip_id")]
pub struct FlightReserved {
    pub trip_id: Uuid,
}

#[saga_event(name = "flight.released", topic = "flight.events", saga = "trip_id", from(HotelRejected))]
pub struct FlightReleased {
    pub trip_id: Uuid,
}

pub async fn reserve(_: &mut Cx<'_, saga::testing::MemoryStore>, trip: TripRequested) -> StepResult<FlightReserved> {
    Ok(Outcome::Success(FlightReserved { trip_id: trip.trip_id }))
}

pub async fn release(
    _: &mut Cx<'_, saga::testing::MemoryStore>,
    released: FlightReleased,
) -> Result<FlightReleased, StepError> {
    Ok(released)
}

//! The flight: reserves a seat, and releases it when the trip goes no further.

use saga::prelude::*;

use crate::{
    events::{
        CarRejected, FlightRejected, FlightReleased, FlightReserved, HotelRejected, OfferWithdrawn, TripRequested,
    },
    places::{self, give_back, take},
};

/// The participant.
pub fn participant() -> Participant<Db> {
    let reserve = Step::new("reserve", reserve).undone_by(release);
    Participant::named("flight").step(reserve.on::<(HotelRejected, CarRejected, OfferWithdrawn)>())
}

/// The service.
pub fn service() -> Service {
    saga::serve(participant()).http("127.0.0.1:8112").migrations(places::MIGRATIONS)
}

// trip.requested -> flight.reserved | flight.rejected
async fn reserve(cx: &mut Cx<'_, Db>, trip: TripRequested) -> StepResult<FlightReserved, FlightRejected> {
    let TripRequested { trip_id, flight, card, .. } = trip;
    let Some(cents) = take(cx, trip_id, &flight.name).await? else {
        return Ok(Outcome::Refused(FlightRejected { trip_id, reason: "no_flight".to_owned() }));
    };
    Ok(Outcome::Success(FlightReserved { trip_id, quoted_cents: flight.quoted_cents, cents, card }))
}

// .. -> flight.released
async fn release(cx: &mut Cx<'_, Db>, released: FlightReleased) -> Result<FlightReleased, StepError> {
    give_back(cx, released.trip_id)?;
    Ok(released)
}

//! The hotel: reserves a room, and releases it when the trip goes no further.

use saga::prelude::*;

use crate::{
    events::{CarRejected, FlightRejected, HotelRejected, HotelReleased, HotelReserved, OfferWithdrawn, TripRequested},
    places::{self, give_back, take},
};

/// The participant.
pub fn participant() -> Participant<Db> {
    let reserve = Step::new("reserve", reserve).undone_by(release);
    Participant::named("hotel").step(reserve.on::<(FlightRejected, CarRejected, OfferWithdrawn)>())
}

/// The service.
pub fn service() -> Service {
    saga::serve(participant()).http("127.0.0.1:8113").migrations(places::MIGRATIONS)
}

// trip.requested -> hotel.reserved | hotel.rejected
async fn reserve(cx: &mut Cx<'_, Db>, trip: TripRequested) -> StepResult<HotelReserved, HotelRejected> {
    let TripRequested { trip_id, hotel, .. } = trip;
    let Some(cents) = take(cx, trip_id, &hotel.name).await? else {
        return Ok(Outcome::Refused(HotelRejected { trip_id, reason: "no_hotel".to_owned() }));
    };
    Ok(Outcome::Success(HotelReserved { trip_id, quoted_cents: hotel.quoted_cents, cents }))
}

// .. -> hotel.released
async fn release(cx: &mut Cx<'_, Db>, released: HotelReleased) -> Result<HotelReleased, StepError> {
    give_back(cx, released.trip_id)?;
    Ok(released)
}

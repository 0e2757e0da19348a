//! The car: reserves a car, and releases it when the trip goes no further.

use saga::prelude::*;

use crate::{
    events::{CarRejected, CarReleased, CarReserved, FlightRejected, HotelRejected, OfferWithdrawn, TripRequested},
    places::{self, give_back, take},
};

/// The participant.
pub fn participant() -> Participant<Db> {
    let reserve = Step::new("reserve", reserve).undone_by(release);
    Participant::named("car").step(reserve.on::<(FlightRejected, HotelRejected, OfferWithdrawn)>())
}

/// The service.
pub fn service() -> Service {
    saga::serve(participant()).http("127.0.0.1:8114").migrations(places::MIGRATIONS)
}

// trip.requested -> car.reserved | car.rejected
async fn reserve(cx: &mut Cx<'_, Db>, trip: TripRequested) -> StepResult<CarReserved, CarRejected> {
    let TripRequested { trip_id, car, .. } = trip;
    let Some(cents) = take(cx, trip_id, &car.name).await? else {
        return Ok(Outcome::Refused(CarRejected { trip_id, reason: "no_car".to_owned() }));
    };
    Ok(Outcome::Success(CarReserved { trip_id, quoted_cents: car.quoted_cents, cents }))
}

// .. -> car.released
async fn release(cx: &mut Cx<'_, Db>, released: CarReleased) -> Result<CarReleased, StepError> {
    give_back(cx, released.trip_id)?;
    Ok(released)
}

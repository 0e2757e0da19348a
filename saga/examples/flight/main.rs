//! The flight of a trip as a service: one step, and three events that compensate it. `cargo run -p saga --example flight`

mod events;

use events::{FlightRejected, FlightReleased, FlightReserved};
use events::{HotelRejected, PaymentDeclined, PaymentRefunded, TripRequested};
use saga::prelude::*;

const SEATS: &str = "CREATE TABLE seats (trip_id text PRIMARY KEY, seats bigint NOT NULL)";
const RESERVE: &str = "INSERT INTO seats (trip_id, seats) VALUES ($1, $2)";
const RELEASE: &str = "DELETE FROM seats WHERE trip_id = $1";

async fn reserve(cx: &mut Cx<'_, Db>, trip: TripRequested) -> StepResult<FlightReserved, FlightRejected> {
    let TripRequested { trip_id, seats } = trip;
    if seats > 9 {
        let reason = "group".to_owned();
        return Ok(Outcome::Refused(FlightRejected { trip_id, reason }));
    }
    cx.write(RESERVE, params![trip_id, seats])?;
    Ok(Outcome::Success(FlightReserved { trip_id }))
}

async fn release(cx: &mut Cx<'_, Db>, flight: FlightReleased) -> Result<FlightReleased, StepError> {
    cx.write(RELEASE, params![flight.trip_id])?;
    Ok(flight)
}

fn main() -> std::process::ExitCode {
    let reserve = Step::new("reserve", reserve).undone_by(release);
    let reserve = reserve.on::<(HotelRejected, PaymentDeclined, PaymentRefunded)>();
    saga::serve(Participant::named("flight").step(reserve))
        .http("127.0.0.1:8091")
        .migrations(&[Migration { name: "0001_seats", sql: SEATS }])
        .run()
}

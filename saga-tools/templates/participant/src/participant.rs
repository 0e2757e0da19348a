//! The participant {name}: one step, its compensation, and its tables.

use saga::prelude::*;

use crate::events::{Rejected, Released, RequestCancelled, RequestMade, Reserved};

/// The tables of {name}. The framework adds its own. The SQL runs on PostgreSQL and SQLite.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_reservations",
    sql: "CREATE TABLE reservations (request_id text PRIMARY KEY, quantity bigint NOT NULL)",
}];

const RESERVE: &str = "INSERT INTO reservations (request_id, quantity) VALUES ($1, $2)";
const RELEASE: &str = "DELETE FROM reservations WHERE request_id = $1";

/// The available quantity.
const MOST: i64 = 10;

pub fn participant() -> Participant<Db> {
    Participant::named("{name}")
        // The flow starts outside any participant, so its first event is declared here.
        .publishes::<RequestMade>()
        .publishes::<RequestCancelled>()
        // The step's name is a key in the database: keep it when you rename the function.
        .step(
            Step::new("reserve", reserve)
                .undone_by(release)
                .on::<(RequestCancelled,)>(),
        )
        .compensates_with::<Rejected>()
        .compensates_with::<Released>()
        // Remove this when another participant consumes the event and goes on.
        .completes_with::<Reserved>()
}

/// The service: its default address, and its tables.
pub fn service() -> Service {
    saga::serve(participant())
        .http("127.0.0.1:8090")
        .migrations(MIGRATIONS)
}

// request.made -> {name}.reserved | {name}.rejected
async fn reserve(cx: &mut Cx<'_, Db>, request: RequestMade) -> StepResult<Reserved, Rejected> {
    let RequestMade {
        request_id,
        quantity,
    } = request;
    if quantity > MOST {
        return Ok(Outcome::Refused(Rejected {
            request_id,
            reason: "too_many".to_owned(),
        }));
    }
    cx.write(RESERVE, params![request_id, quantity])?;
    Ok(Outcome::Success(Reserved { request_id }))
}

// request.cancelled -> {name}.released
async fn release(cx: &mut Cx<'_, Db>, released: Released) -> Result<Released, StepError> {
    cx.write(RELEASE, params![released.request_id])?;
    Ok(released)
}

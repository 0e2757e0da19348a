//! What {name} does in the flow: one step, what undoes it, and its tables.

use saga::prelude::*;

use crate::events::{Rejected, Released, RequestCancelled, RequestMade, Reserved};

/// {name}'s own tables; those of the framework are added to them. The SQL is the same for PostgreSQL and SQLite.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_reservations",
    sql: "CREATE TABLE reservations (request_id text PRIMARY KEY, quantity bigint NOT NULL)",
}];

const RESERVE: &str = "INSERT INTO reservations (request_id, quantity) VALUES ($1, $2)";
const RELEASE: &str = "DELETE FROM reservations WHERE request_id = $1";

/// There is no more than this.
const MOST: i64 = 10;

pub fn participant() -> Participant<Db> {
    Participant::named("{name}")
        // Whoever starts the flow is no participant of it, so it is declared here.
        .publishes::<RequestMade>()
        .publishes::<RequestCancelled>()
        // A step's name is a key in the database: it stays, whatever its function is called.
        .step(Step::new("reserve", reserve).undone_by(release))
        .compensates_with::<Rejected>()
        .compensates_with::<Released>()
        // Where the flow ends well, .completes_with::<..>() says so; then this line goes.
        .accept(
            Rule::PublishedIsConsumed,
            "who takes it from here is to be written",
        )
}

/// The service: where it listens unless HTTP_ADDR says otherwise, and its tables.
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
    cx.tx()
        .execute(RESERVE, params![request_id, quantity])
        .await?;
    Ok(Outcome::Success(Reserved { request_id }))
}

// request.cancelled -> {name}.released
async fn release(cx: &mut Cx<'_, Db>, why: RequestCancelled) -> Result<Released, StepError> {
    cx.tx().execute(RELEASE, params![why.request_id]).await?;
    Ok(why.into())
}

//! The mail: tells the customer. No saga waits for it, and its failure stops none.

use saga::prelude::*;

use crate::events::{PriceChanged, TripCancelled, TripConfirmed};

/// The mails that are to be sent.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_mails",
    sql: "CREATE TABLE mails (trip_id text NOT NULL, subject text NOT NULL, PRIMARY KEY (trip_id, subject))",
}];

const MAIL: &str = "INSERT INTO mails (trip_id, subject) VALUES ($1, $2)";

/// How a trip has ended.
#[derive(Clone, Debug, Trigger)]
#[trigger(fields(trip_id: Uuid))]
pub enum Ended {
    /// Reserved and paid.
    Confirmed(TripConfirmed),
    /// Nothing is left of it.
    Cancelled(TripCancelled),
}

/// The participant.
pub fn participant() -> Participant<Db> {
    Participant::named("mail").step(Step::new("ask", ask)).step(Step::new("tell", tell)).optional()
}

/// The service.
pub fn service() -> Service {
    saga::serve(participant()).http("127.0.0.1:8116").migrations(MIGRATIONS)
}

async fn ask(cx: &mut Cx<'_, Db>, changed: PriceChanged) -> StepResult<Never> {
    cx.write(MAIL, params![changed.trip_id, "the price has changed"])?;
    Ok(Outcome::Quiet)
}

async fn tell(cx: &mut Cx<'_, Db>, ended: Ended) -> StepResult<Never> {
    let subject = match &ended {
        Ended::Confirmed(_) => "have a good trip",
        Ended::Cancelled(_) => "your trip is cancelled",
    };
    cx.write(MAIL, params![*ended.trip_id(), subject])?;
    Ok(Outcome::Quiet)
}

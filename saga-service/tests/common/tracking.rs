//! A participant with one step that looks six times whether a parcel has arrived.

use std::time::Duration;

use saga_core::{Event, Outcome, Participant, Rounds, Step, StepResult, handler::Cx};
use saga_service::Service;
use saga_store::{Db, Migration, Write, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "parcel.sent", topic = "parcel.events", saga = "id")]
pub(crate) struct Sent {
    pub(crate) id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "parcel.arrived", topic = "tracking.events", saga = "id")]
pub(crate) struct Arrived {
    id: Uuid,
}

/// The rounds that each parcel takes.
pub(crate) const ROUNDS: u32 = 6;

async fn look(cx: &mut Cx<'_, Db>, parcel: Sent) -> StepResult<Arrived> {
    let round = cx.round();
    // A round that ran twice would break the key.
    cx.write("INSERT INTO looked (id, round) VALUES ($1, $2)", params![parcel.id, i64::from(round)])?;
    match round + 1 == ROUNDS {
        true => Ok(Outcome::Success(Arrived { id: parcel.id })),
        false => Ok(Outcome::Again { after: Duration::from_millis(300) }),
    }
}

pub(crate) fn tracking() -> Service {
    const MIGRATIONS: &[Migration] = &[Migration {
        name: "looked",
        sql: "CREATE TABLE looked (id text NOT NULL, round bigint NOT NULL, PRIMARY KEY (id, round))",
    }];
    let look = Step::new("look", look).again(Rounds::at_most(ROUNDS));
    saga_service::serve(Participant::named("tracking").step(look)).http("127.0.0.1:8098").migrations(MIGRATIONS)
}

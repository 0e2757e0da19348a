//! A participant with one step that waits for two events. Their topics are consumed by different processes.

use std::time::Duration;

use saga_core::{Event, Outcome, Participant, SagaId, Step, StepError, StepResult, handler::Cx};
use saga_service::Service;
use saga_store::{Db, Migration, Write, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "left.came", topic = "a.events", saga = "id")]
pub(crate) struct Left {
    pub(crate) id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "right.came", topic = "b.events", saga = "id")]
pub(crate) struct Right {
    pub(crate) id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "meeting.held", topic = "meeting.events", saga = "id")]
pub(crate) struct Held {
    id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "meeting.missed", topic = "meeting.events", saga = "id")]
pub(crate) struct Missed {
    id: Uuid,
}

async fn meet(cx: &mut Cx<'_, Db>, (left, right): (Left, Right)) -> StepResult<Held> {
    // A second meeting of one saga would break the key.
    cx.write("INSERT INTO meeting (id) VALUES ($1)", params![SagaId::from(right.id)])?;
    Ok(Outcome::Success(Held { id: left.id }))
}

async fn miss(_: &mut Cx<'_, Db>, sagas: Vec<SagaId>) -> Result<Vec<Outcome<Missed>>, StepError> {
    Ok(sagas.into_iter().map(|saga| Outcome::Success(Missed { id: saga.as_uuid() })).collect())
}

pub(crate) fn meeting() -> Service {
    const MIGRATIONS: &[Migration] =
        &[Migration { name: "meeting", sql: "CREATE TABLE meeting (id text PRIMARY KEY)" }];
    let meet = Step::new("meet", meet).arrivals_within(Duration::from_secs(600), miss);
    saga_service::serve(Participant::named("meeting").step(meet)).http("127.0.0.1:8098").migrations(MIGRATIONS)
}

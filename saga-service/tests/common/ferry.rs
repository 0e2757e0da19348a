//! A participant that asks for a cabin and a meal at once, and cannot give the cabin back.

use saga_core::{Event, Outcome, Participant, Step, StepError, StepResult, graph::Rule, handler::Cx};
use saga_service::Service;
use saga_store::{Db, Migration, Write, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! events {
    ($($event:ident = $name:literal on $topic:literal;)*) => { $(
        #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
        #[event(name = $name, topic = $topic, saga = "id")]
        pub(crate) struct $event {
            pub(crate) id: Uuid,
        }
    )* };
}

events! {
    Booked = "trip.booked" on "trip.events";
    Cancelled = "trip.cancelled" on "trip.events";
    CabinWanted = "cabin.wanted" on "ferry.events";
    MealWanted = "meal.wanted" on "ferry.events";
    CabinTaken = "cabin.taken" on "ferry.events";
    MealOrdered = "meal.ordered" on "ferry.events";
    CabinFreed = "cabin.freed" on "ferry.events";
    MealCancelled = "meal.cancelled" on "ferry.events";
    Closed = "ferry.closed" on "ferry.events";
}

impl From<MealCancelled> for CabinFreed {
    fn from(meal: MealCancelled) -> Self {
        Self { id: meal.id }
    }
}

impl From<Cancelled> for MealCancelled {
    fn from(cancelled: Cancelled) -> Self {
        Self { id: cancelled.id }
    }
}

/// Records what ran; a step or a compensation that ran twice would break the key.
fn ran(cx: &mut Cx<'_, Db>, what: &'static str, id: Uuid) -> Result<(), StepError> {
    Ok(cx.write("INSERT INTO ran (id, what) VALUES ($1, $2)", params![id, what])?)
}

async fn plan(cx: &mut Cx<'_, Db>, trip: Booked) -> StepResult<(CabinWanted, MealWanted)> {
    ran(cx, "plan", trip.id)?;
    Ok(Outcome::Success((CabinWanted { id: trip.id }, MealWanted { id: trip.id })))
}

async fn take(cx: &mut Cx<'_, Db>, wanted: CabinWanted) -> StepResult<CabinTaken> {
    ran(cx, "take", wanted.id)?;
    Ok(Outcome::Success(CabinTaken { id: wanted.id }))
}

async fn free(_: &mut Cx<'_, Db>, _: MealCancelled) -> Result<CabinFreed, StepError> {
    Err(StepError::permanent("the ferry has left"))
}

async fn order(cx: &mut Cx<'_, Db>, wanted: MealWanted) -> StepResult<MealOrdered> {
    ran(cx, "order", wanted.id)?;
    Ok(Outcome::Success(MealOrdered { id: wanted.id }))
}

async fn cancel(cx: &mut Cx<'_, Db>, cancelled: Cancelled) -> Result<MealCancelled, StepError> {
    ran(cx, "cancel", cancelled.id)?;
    Ok(cancelled.into())
}

async fn close(cx: &mut Cx<'_, Db>, cabin: CabinFreed) -> StepResult<Closed> {
    ran(cx, "close", cabin.id)?;
    Ok(Outcome::Success(Closed { id: cabin.id }))
}

pub(crate) fn ferry() -> Service {
    const MIGRATIONS: &[Migration] = &[Migration {
        name: "ran",
        sql: "CREATE TABLE ran (id text NOT NULL, what text NOT NULL, PRIMARY KEY (id, what))",
    }];
    let ferry = Participant::named("ferry")
        .step(Step::new("plan", plan))
        .step(Step::new("take", take).undone_by(free).best_effort())
        .step(Step::new("order", order).undone_by(cancel))
        .step(Step::new("close", close))
        .compensates_with::<Closed>()
        .accept(Rule::WaitsHaveDeadlines, "the test cancels every trip");
    saga_service::serve(ferry).http("127.0.0.1:8097").migrations(MIGRATIONS)
}

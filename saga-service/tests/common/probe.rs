//! A small service with a route for everything that can go wrong.

use std::time::Duration;

use axum::{
    Router,
    http::StatusCode,
    routing::{get, post},
};
use saga_core::{Event, Outcome, Participant, Step, StepResult, handler::Cx};
use saga_service::{Deps, Json, Path, Problem, Service, ServiceError, Trace};
use saga_store::{Db, Migration, Publishing};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "probe.asked", topic = "probe.events", saga = "id")]
pub(crate) struct Asked {
    id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "probe.answered", topic = "probe.events", saga = "id")]
pub(crate) struct Answered {
    id: Uuid,
}

async fn answer(_: &mut Cx<'_, Db>, asked: Asked) -> StepResult<Answered> {
    Ok(Outcome::Success(Answered { id: asked.id }))
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ProbeArgs {
    /// How many probes may be under way
    #[arg(long, env = "PROBE_LIMIT", hide_env_values = true, value_name = "N", default_value = "3")]
    probe_limit: u16,
}

impl Default for ProbeArgs {
    fn default() -> Self {
        Self { probe_limit: 3 }
    }
}

pub(crate) fn probe() -> Service<ProbeArgs> {
    const MIGRATIONS: &[Migration] = &[Migration { name: "probe", sql: "CREATE TABLE probe (id text PRIMARY KEY)" }];
    let participant = |args: &ProbeArgs, _: &Deps| {
        if args.probe_limit == 0 {
            return Err(ServiceError::config("PROBE_LIMIT", "must be at least 1"));
        }
        Ok(Participant::named("probe").step(Step::new("answer", answer)))
    };
    Service::built("probe", participant)
        .http("127.0.0.1:8099")
        .migrations(MIGRATIONS)
        .routes(|deps| routes(deps.clone()))
}

#[derive(Serialize, Deserialize)]
struct Item {
    sku: String,
    quantity: u32,
}

#[derive(Serialize, Deserialize)]
struct Echo {
    items: Vec<Item>,
}

fn routes(deps: Deps) -> Router {
    let ask = async move |Trace(trace): Trace| {
        let asked = Asked { id: Uuid::now_v7() };
        let publish = async |mut tx: Publishing| {
            tx.publish(&asked)?;
            Ok::<_, Problem>((tx, ()))
        };
        deps.outbox.transaction(&trace, publish).await?;
        Ok::<_, Problem>((StatusCode::ACCEPTED, Json(asked)))
    };
    let count: fn() -> StatusCode = || panic!("a defect");
    Router::new()
        .route("/ask", post(ask))
        .route("/echo", post(async |Json(echo): Json<Echo>| Json(echo)))
        .route("/things/{id}", get(async |Path(id): Path<u32>| Json(id)))
        .route("/plain", get(async || (StatusCode::IM_A_TEAPOT, "short and stout")))
        .route("/panic", get(async move || count()))
        .route("/log", get(async || tracing::info!("{}", "talkative ".repeat(10_000))))
        .route("/slow", get(async || tokio::time::sleep(Duration::from_secs(20)).await))
}

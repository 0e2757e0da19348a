//! Payment's routes: an order's payment, and the sandbox gateway's statement about it.

use std::sync::Arc;

use axum::{Router, extract::State, routing::get};
use saga_service::{Json, Path, Problem};
use saga_store::{Db, params};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    sandbox::{SandboxGateway, Statement},
    store::SELECT,
};

/// `GET /payments/{order_id}`.
pub fn routes(db: Db) -> Router {
    Router::new().route("/payments/{order_id}", get(show)).with_state(db)
}

/// `GET /sandbox/{order_id}`: shows whether a crash charged twice.
pub fn sandbox_routes(gateway: Arc<SandboxGateway>) -> Router {
    Router::new().route("/sandbox/{order_id}", get(statement)).with_state(gateway)
}

#[derive(Serialize)]
struct Payment {
    order_id: Uuid,
    status: String,
    amount_cents: i64,
}

async fn show(State(db): State<Db>, Path(order_id): Path<Uuid>) -> Result<Json<Payment>, Problem> {
    let row = db.query_opt(SELECT, params![order_id]).await?;
    let row = row.ok_or_else(|| Problem::not_found("there is no payment for this order"))?;
    Ok(Json(Payment { order_id, status: row.get("status")?, amount_cents: row.get("amount_cents")? }))
}

async fn statement(
    State(gateway): State<Arc<SandboxGateway>>,
    Path(order_id): Path<Uuid>,
) -> Result<Json<Statement>, Problem> {
    let statement = gateway.statement(order_id).await?;
    statement.map(Json).ok_or_else(|| Problem::not_found("the gateway has no charge for this order"))
}

#[cfg(test)]
mod tests;

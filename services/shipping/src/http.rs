//! Shipping's route: the status of an order's parcel.

use axum::{Router, extract::State, routing::get};
use saga_service::{Json, Path, Problem};
use saga_store::{Db, params};
use serde::Serialize;
use uuid::Uuid;

use crate::store::SELECT;

/// `GET /shipments/{order_id}`.
pub fn routes(db: Db) -> Router {
    Router::new().route("/shipments/{order_id}", get(show)).with_state(db)
}

#[derive(Serialize)]
struct Shipment {
    order_id: Uuid,
    status: String,
    tracking_number: Option<String>,
}

async fn show(State(db): State<Db>, Path(order_id): Path<Uuid>) -> Result<Json<Shipment>, Problem> {
    let row = db.query_opt(SELECT, params![order_id]).await?;
    let row = row.ok_or_else(|| Problem::not_found("there is no shipment for this order"))?;
    Ok(Json(Shipment { order_id, status: row.get("status")?, tracking_number: row.get("tracking_number")? }))
}

#[cfg(test)]
mod tests;

//! The inventory's routes: the stock of a SKU.

use axum::{Router, extract::State, routing::get};
use order_flow_events::check_sku;
use saga_service::{Json, Path, Problem};
use saga_store::{Db, Row, params};
use serde::{Deserialize, Serialize};

use crate::{
    domain::MAX_AVAILABLE,
    store::{SELECT_STOCK, SET_AVAILABLE},
};

/// `PUT /stock/{sku}`, `GET /stock/{sku}`.
pub fn routes(db: Db) -> Router {
    Router::new().route("/stock/{sku}", get(show).put(set)).with_state(db)
}

#[derive(Serialize)]
struct Stock {
    sku: String,
    available: i64,
    reserved: i64,
}

impl Stock {
    fn read(sku: String, row: &Row) -> Result<Json<Self>, Problem> {
        Ok(Json(Self { sku, available: row.get("available")?, reserved: row.get("reserved")? }))
    }
}

#[derive(Deserialize)]
struct Available {
    quantity: i64,
}

/// Sets the number of free units; the reserved units stay as they are.
async fn set(
    State(db): State<Db>,
    Path(sku): Path<String>,
    Json(new): Json<Available>,
) -> Result<Json<Stock>, Problem> {
    check_sku(&sku).map_err(Problem::unprocessable)?;
    if !(0..=MAX_AVAILABLE).contains(&new.quantity) {
        return Err(Problem::unprocessable(format!("quantity: 0 to {MAX_AVAILABLE}")));
    }
    let row = db
        .transaction(async |tx| {
            let row = tx.query_opt(SET_AVAILABLE, params![&sku, new.quantity]).await?;
            Ok::<_, Problem>((tx, row, Vec::new()))
        })
        .await?;
    Stock::read(sku, &row.ok_or_else(|| Problem::internal(&"an upsert returned no row"))?)
}

async fn show(State(db): State<Db>, Path(sku): Path<String>) -> Result<Json<Stock>, Problem> {
    let never_set = || Problem::not_found("no stock was ever set for this SKU");
    check_sku(&sku).map_err(|_| never_set())?;
    let row = db.query_opt(SELECT_STOCK, params![&sku]).await?.ok_or_else(never_set)?;
    Stock::read(sku, &row)
}

#[cfg(test)]
mod tests;

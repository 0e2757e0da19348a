//! The order's routes: create an order, show it, cancel it.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::Timestamp;
use order_flow_events::{OrderCancellationRequested, OrderCreated, Reason};
use saga_core::{SagaId, envelope::header, store::OutboxRow, trace::TraceContext};
use saga_service::{Json, Path, Problem, Trace};
use saga_store::{Db, Outbox, Rows, Tx, params};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    domain::{Entry, OrderRequest, Status, entries, entry, is_idempotency_key},
    store::{CREATE, LOCK, REQUEST_CANCELLATION, SELECT, SELECT_KEY, TAKE_KEY},
};

/// `POST /orders`, `GET /orders/{id}`, `POST /orders/{id}/cancel`.
pub fn routes(db: Db, outbox: Outbox) -> Router {
    Router::new()
        .route("/orders", post(create))
        .route("/orders/{id}", get(show))
        .route("/orders/{id}/cancel", post(cancel))
        .with_state(App { db, outbox })
}

#[derive(Clone)]
struct App {
    db: Db,
    outbox: Outbox,
}

/// The response to a request that changes an order.
#[derive(Serialize)]
struct Accepted {
    order_id: Uuid,
    status: Status,
}

async fn create(
    State(app): State<App>,
    Trace(trace): Trace,
    headers: HeaderMap,
    Json(request): Json<OrderRequest>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let fingerprint = request.fingerprint().map_err(|e| Problem::internal(&e))?;
    let order = request.order(SagaId::random().as_uuid()).map_err(Problem::unprocessable)?;
    let earlier = app
        .outbox
        .transaction(&trace, async |mut tx| {
            if let Some(key) = &key
                && let Some(earlier) = take_key(&tx, key, fingerprint, order.order_id).await?
            {
                return Ok::<_, Problem>((tx, Some(earlier)));
            }
            let event = tx.publish(&order)?.clone();
            insert(&tx, &order, &event).await?;
            Ok((tx, None))
        })
        .await?;
    let order_id = earlier.unwrap_or(order.order_id);
    let location = [(LOCATION, format!("/orders/{order_id}"))];
    Ok((StatusCode::ACCEPTED, location, Json(Accepted { order_id, status: Status::Pending })).into_response())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let key = key.as_bytes();
    if keys.next().is_some() || !is_idempotency_key(key) {
        return Err(Problem::bad_request("Idempotency-Key: one value of 1 to 255 printable ASCII characters"));
    }
    Ok(Some(String::from_utf8_lossy(key).into_owned()))
}

/// Assigns the key to this order, or finds the order that already has it.
async fn take_key(tx: &Tx, key: &str, fingerprint: Uuid, order_id: Uuid) -> Result<Option<Uuid>, Problem> {
    if tx.query_opt(TAKE_KEY, params![key, fingerprint, order_id]).await?.is_some() {
        return Ok(None);
    }
    let row = tx.query_opt(SELECT_KEY, params![key]).await?;
    let row = row.ok_or_else(|| Problem::internal(&"an idempotency key vanished"))?;
    if row.get::<Uuid>("fingerprint")? != fingerprint {
        return Err(Problem::unprocessable("Idempotency-Key: it was used with another body before"));
    }
    Ok(Some(row.get("order_id")?))
}

/// Returns the trace of the published event, which starts here when the request has none.
async fn insert(tx: &Tx, order: &OrderCreated, event: &OutboxRow) -> Result<(), Problem> {
    let header = |name| event.record.headers.iter().find(|h| h.is(name)).and_then(|h| h.value.clone());
    let text = |name| header(name).and_then(|value| String::from_utf8(value).ok());
    let (traceparent, tracestate) = (text(header::TRACEPARENT), text(header::TRACESTATE));
    let history = entry::<OrderCreated>(event.created_at);
    let OrderCreated { order_id, customer_id, total_cents, currency, .. } = order;
    let order = params![*order_id, *customer_id, *total_cents, currency, traceparent, tracestate, history];
    tx.execute(CREATE, order).await?;
    Ok(())
}

/// An order as the order service has recorded it.
#[derive(Serialize)]
struct Shown {
    order_id: Uuid,
    status: Status,
    reason: Option<String>,
    /// None while only the end of the order has been observed.
    total_cents: Option<i64>,
    history: Vec<Entry>,
}

async fn show(State(app): State<App>, Path(order_id): Path<Uuid>) -> Result<Json<Shown>, Problem> {
    let row = app.db.query_opt(SELECT, params![order_id]).await?.ok_or_else(unknown_order)?;
    Ok(Json(Shown {
        order_id,
        status: read_status(&row.get::<String>("status")?)?,
        reason: row.get("reason")?,
        total_cents: row.get("total_cents")?,
        history: entries(&row.get::<String>("history")?),
    }))
}

async fn cancel(State(app): State<App>, Trace(trace): Trace, Path(order_id): Path<Uuid>) -> Result<Response, Problem> {
    let request = OrderCancellationRequested { order_id, reason: Reason::CancelledByCustomer };
    let status = app
        .outbox
        .transaction(&trace, async |mut tx| {
            let row = tx.query_opt(LOCK, params![order_id]).await?.ok_or_else(unknown_order)?;
            let status = read_status(&row.get::<String>("status")?)?;
            if status != Status::Pending {
                return Ok::<_, Problem>((tx, status));
            }
            let of_order = TraceContext { traceparent: row.get("traceparent")?, tracestate: row.get("tracestate")? };
            let at = tx.publish_in(&request, &of_order)?.created_at;
            request_cancellation(&tx, &request, at).await?;
            Ok((tx, Status::Cancelling))
        })
        .await?;
    let code = match status {
        Status::Pending | Status::Cancelling => StatusCode::ACCEPTED,
        Status::Cancelled => StatusCode::OK,
        Status::Confirmed => return Err(Problem::conflict("the order is confirmed and can no longer be cancelled")),
    };
    Ok((code, Json(Accepted { order_id, status })).into_response())
}

async fn request_cancellation(tx: &Tx, request: &OrderCancellationRequested, at: Timestamp) -> Result<(), Problem> {
    let history = entry::<OrderCancellationRequested>(at);
    let order: Rows = [params![request.order_id]].into_iter().collect();
    tx.execute_rows(REQUEST_CANCELLATION, &order, params![request.reason.as_str(), history]).await?;
    Ok(())
}

fn unknown_order() -> Problem {
    Problem::not_found("there is no such order")
}

fn read_status(text: &str) -> Result<Status, Problem> {
    text.parse().map_err(|e: String| Problem::internal(&e))
}

#[cfg(test)]
mod tests;

//! The order's steps. A step that only writes handles one order at a time. A step that reads and locks orders to decide
//! between two ends handles all orders of the transaction at once, since each read is a round trip.
//!
//! The steps of one order may run in any order: its end may be observed before its beginning. Each step can therefore
//! insert the row, and the row's status, read under its lock, decides which step came first.

use std::collections::{HashMap, HashSet};

use order_flow_events::{
    InventoryRejected, InventoryReleased, OrderCancellationRequested, OrderCancelled, OrderConfirmed, OrderCreated,
    Reason, ShippingScheduled, UnknownReason,
};
use saga_core::{Never, Outcome, SagaId, StepError, StepResult, handler::Cx, trace::TraceContext};
use saga_store::{Db, Rows, Write, params};
use uuid::Uuid;

use crate::{
    domain::entry,
    store::{CANCEL, CONFIRM, LOCK_PENDING, REGISTER, REQUEST_CANCELLATION},
    triggers::NothingHeld,
};

/// Registers the order as pending, whichever producer published it.
pub(crate) async fn register(cx: &mut Cx<'_, Db>, order: OrderCreated) -> StepResult<Never> {
    // A later cancellation continues this trace.
    let TraceContext { traceparent, tracestate } = cx.trace(order.order_id.into());
    let OrderCreated { order_id, customer_id, total_cents, currency, .. } = order;
    let history = entry::<OrderCreated>(cx.now());
    let order = params![order_id, "pending", customer_id, total_cents, currency, traceparent, tracestate, history];
    cx.write(REGISTER, order)?;
    Ok(Outcome::Quiet)
}

/// Confirms the order, unless it is being compensated.
pub(crate) async fn confirm(
    cx: &mut Cx<'_, Db>,
    scheduled: Vec<ShippingScheduled>,
) -> Result<Vec<Outcome<OrderConfirmed>>, StepError> {
    let seen = entry::<ShippingScheduled>(cx.now());
    let confirmed = entry::<OrderConfirmed>(cx.now());
    let history = format!("{seen}{confirmed}");
    let rows: Rows = scheduled.iter().map(|event| params![event.order_id, &history]).collect();
    let mut status: HashMap<Uuid, String> = HashMap::with_capacity(scheduled.len());
    for row in cx.tx().query_rows(CONFIRM, &rows, params![&seen]).await? {
        status.insert(row.get("order_id")?, row.get("status")?);
    }
    let outcome = |event: ShippingScheduled| match status.get(&event.order_id).map(String::as_str) {
        Some("confirmed") => {
            Outcome::Success(OrderConfirmed { order_id: event.order_id, tracking_number: event.tracking_number })
        }
        _ => Outcome::Quiet,
    };
    Ok(scheduled.into_iter().map(outcome).collect())
}

/// Ends the order: everything is compensated. The first reason stays.
pub(crate) async fn cancel(
    cx: &mut Cx<'_, Db>,
    freed: Vec<NothingHeld>,
) -> Result<Vec<Outcome<OrderCancelled>>, StepError> {
    let (rejected, released) = (entry::<InventoryRejected>(cx.now()), entry::<InventoryReleased>(cx.now()));
    let cancelled = entry::<OrderCancelled>(cx.now());
    let row = |event: &NothingHeld| {
        let seen = match event {
            NothingHeld::Rejected(_) => &rejected,
            NothingHeld::Released(_) => &released,
        };
        params![*event.order_id(), event.reason().as_str(), format!("{seen}{cancelled}")]
    };
    let rows: Rows = freed.iter().map(row).collect();
    let mut reasons: HashMap<Uuid, Reason> = HashMap::with_capacity(freed.len());
    for row in cx.tx().query_rows(CANCEL, &rows, params![]).await? {
        let reason: Result<Reason, UnknownReason> = row.get::<String>("reason")?.parse();
        let reason = reason.map_err(|e| StepError::permanent("the stored reason cannot be read").caused_by(e))?;
        reasons.insert(row.get("order_id")?, reason);
    }
    let outcome = |event: NothingHeld| {
        let order_id = *event.order_id();
        match reasons.remove(&order_id) {
            Some(reason) => Outcome::Success(OrderCancelled { order_id, reason }),
            None => {
                // Only an event from outside this flow can compensate a confirmed order.
                let lines = cx.lines(order_id.into());
                lines.in_scope(|| {
                    tracing::error!(
                        "a confirmed order was compensated by an event from outside the flow; it stays confirmed"
                    )
                });
                Outcome::Quiet
            }
        }
    };
    Ok(freed.into_iter().map(outcome).collect())
}

/// Requests the cancellation of orders that were not confirmed in time.
pub(crate) async fn expire(
    cx: &mut Cx<'_, Db>,
    sagas: Vec<SagaId>,
) -> Result<Vec<Outcome<OrderCancellationRequested>>, StepError> {
    let requested = entry::<OrderCancellationRequested>(cx.now());
    let rows: Rows = sagas.iter().map(|saga| params![*saga]).collect();
    let pending = cx.tx().query_rows(LOCK_PENDING, &rows, params![]).await?;
    let pending: HashSet<Uuid> = pending.iter().map(|row| row.get("order_id")).collect::<Result<_, _>>()?;
    if !pending.is_empty() {
        let rows: Rows = pending.iter().map(|id| params![*id]).collect();
        cx.tx().execute_rows(REQUEST_CANCELLATION, &rows, params![Reason::Deadline.as_str(), &requested]).await?;
    }
    let outcome = |saga: SagaId| {
        let order_id = saga.as_uuid();
        if pending.contains(&order_id) {
            Outcome::Success(OrderCancellationRequested { order_id, reason: Reason::Deadline })
        } else {
            Outcome::Quiet
        }
    };
    Ok(sagas.into_iter().map(outcome).collect())
}

#[cfg(test)]
mod tests;

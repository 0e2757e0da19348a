//! The inventory's steps, each for a whole batch of orders at once.

use std::collections::{BTreeMap, BTreeSet};

use order_flow_events::{InventoryRejected, InventoryReleased, InventoryReserved, OrderCreated, Reason};
use saga_core::{Outcome, StepError, handler::Cx};
use saga_store::{Db, Rows, params};

use crate::{
    domain::Shelf,
    store::{DELETE_RESERVATIONS, INSERT_RESERVATIONS, LOCK_STOCK, MOVE_TO_RESERVED},
};

/// Sets aside every item of an order, or refuses the order.
pub(crate) async fn reserve(
    cx: &mut Cx<'_, Db>,
    orders: Vec<OrderCreated>,
) -> Result<Vec<Outcome<InventoryReserved, InventoryRejected>>, StepError> {
    let tx = cx.tx();
    let wanted: BTreeSet<&str> = orders.iter().flat_map(|o| &o.items).map(|item| item.sku.as_str()).collect();
    let stock = tx.query_rows(LOCK_STOCK, &skus(wanted), params![]).await?;
    let stock = stock.iter().map(|row| Ok((row.get("sku")?, row.get("available")?)));
    let mut shelf = Shelf::holding(stock.collect::<Result<Vec<_>, StepError>>()?);

    let (mut outcomes, mut reservations) = (Vec::with_capacity(orders.len()), Rows::new());
    for order in orders {
        if shelf.take(&order.items) {
            reservations.extend(order.items.iter().map(|i| params![order.order_id, &i.sku, i.quantity]));
            outcomes.push(Outcome::Success(reserved(order)));
        } else {
            let refusal = InventoryRejected { order_id: order.order_id, reason: Reason::OutOfStock };
            outcomes.push(Outcome::Refused(refusal));
        }
    }
    if !reservations.is_empty() {
        let taken: Rows = shelf.taken().map(|(sku, quantity)| params![sku, quantity]).collect();
        tokio::try_join!(
            tx.execute_rows(INSERT_RESERVATIONS, &reservations, params![]),
            tx.execute_rows(MOVE_TO_RESERVED, &taken, params![]),
        )?;
    }
    Ok(outcomes)
}

fn reserved(order: OrderCreated) -> InventoryReserved {
    InventoryReserved {
        order_id: order.order_id,
        amount_cents: order.total_cents,
        currency: order.currency,
        payment_method: order.payment_method,
        shipping_address: order.shipping_address,
    }
}

/// Makes available again what is set aside for these orders.
pub(crate) async fn release(
    cx: &mut Cx<'_, Db>,
    released: Vec<InventoryReleased>,
) -> Result<Vec<InventoryReleased>, StepError> {
    let tx = cx.tx();
    let orders: Rows = released.iter().map(|event| params![event.order_id]).collect();
    let mut units: BTreeMap<String, i64> = BTreeMap::new();
    for row in tx.query_rows(DELETE_RESERVATIONS, &orders, params![]).await? {
        *units.entry(row.get("sku")?).or_default() += row.get::<i64>("quantity")?;
    }
    if !units.is_empty() {
        let back: Rows = units.iter().map(|(sku, quantity)| params![sku, -quantity]).collect();
        tx.query_rows(LOCK_STOCK, &skus(units.keys().map(String::as_str)), params![]).await?;
        tx.execute_rows(MOVE_TO_RESERVED, &back, params![]).await?;
    }
    Ok(released)
}

fn skus<'a>(skus: impl IntoIterator<Item = &'a str>) -> Rows {
    skus.into_iter().map(|sku| params![sku]).collect()
}

#[cfg(test)]
mod tests;

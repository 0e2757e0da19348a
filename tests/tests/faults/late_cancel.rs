//! Late cancellations: of an order that has been charged, and of one whose charge is being retried.

use anyhow::{Result, ensure};
use saga_tests::{PATIENCE, Who, World, eventually, in_both_modes, orders::Order};

in_both_modes![
    own_world: a_pending_order_that_is_cancelled_is_compensated_in_reverse_order,
    a_cancellation_does_not_wait_for_the_charge_that_is_tried_again_and_again,
];

async fn a_pending_order_that_is_cancelled_is_compensated_in_reverse_order(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(5).await?, 2);
    world.signal(Who::Shipping, "STOP")?;
    let id = world.place(&order).await?;
    world.event(id, "payment.charged").await?;
    for _ in 0..2 {
        let answer = world.cancel(id).await?;
        ensure!(answer.status == 202 && answer.body["status"] == "cancelling", "{answer:?}");
    }
    world.event(id, "order.cancellation_requested").await?;
    world.signal(Who::Shipping, "CONT")?;
    eventually(PATIENCE, "the order is cancelled", async || {
        let shown = world.order(id).await?;
        ensure!(shown["status"] == "cancelled" && shown["reason"] == "cancelled_by_customer", "{shown}");
        Ok(())
    })
    .await?;
    let mut effect = world.event(id, "order.cancelled").await?;
    for cause in ["inventory.released", "payment.refunded", "shipping.cancelled", "order.cancellation_requested"] {
        let event = world.event(id, cause).await?;
        ensure!(effect.cause() == event.id, "{} does not follow from {cause}", effect.event_type);
        ensure!(!event.is_null_compensation() || cause == "shipping.cancelled", "{event:?}");
        effect = event;
    }
    ensure!(world.count(id, "order.confirmed") == 0, "{:?}", world.types(id));
    ensure!(world.units(&order.sku).await? == (5, 0));
    let (sandbox, total) = (world.sandbox(id).await?.unwrap_or_default(), order.total_cents());
    ensure!(sandbox["captured_cents"] == total && sandbox["refunded_cents"] == total, "{sandbox}");
    let shipment = world.shipment(id).await?;
    ensure!(shipment.is_none_or(|shipment| shipment["status"] == "cancelled"));
    ensure!(world.cancel(id).await?.status == 200);
    Ok(())
}

async fn a_cancellation_does_not_wait_for_the_charge_that_is_tried_again_and_again(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(5).await?, 2).paid_by("tok_timeout");
    let id = world.place(&order).await?;
    eventually(PATIENCE, "the charge fails", async || {
        let calls = world.sandbox(id).await?.and_then(|sandbox| sandbox["calls"].as_i64()).unwrap_or_default();
        ensure!(calls >= 2, "{calls} calls");
        Ok(())
    })
    .await?;
    ensure!(world.cancel(id).await?.status == 202);
    let cancelled = world.event(id, "order.cancelled").await?;
    ensure!(cancelled.cause() == world.event(id, "inventory.released").await?.id);
    let refunded = world.event(id, "payment.refunded").await?;
    ensure!(!refunded.is_null_compensation(), "the gateway was asked to refund a charge that it may have captured");
    ensure!(world.count(id, "payment.declined") == 0, "the cancellation did not wait for the retries");
    ensure!(world.order(id).await?["reason"] == "cancelled_by_customer");
    ensure!(world.units(&order.sku).await? == (5, 0));
    let sandbox = world.sandbox(id).await?.unwrap_or_default();
    ensure!(sandbox["captured_cents"] == 0, "{sandbox}");
    let calls = sandbox["calls"].clone();
    let parked = world.metric(Who::Payment, "saga_parked", "").await?;
    ensure!(parked == 0.0, "{parked} sagas are parked");
    ensure!(world.sandbox(id).await?.unwrap_or_default()["calls"] == calls, "the gateway is called no more");
    Ok(())
}

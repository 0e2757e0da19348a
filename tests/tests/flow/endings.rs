//! Every ending of an order.

use std::time::Duration;

use anyhow::{Result, ensure};
use saga_tests::{PATIENCE, Who, World, eventually, in_both_modes, orders, orders::Order};
use serde_json::{Value, json};
use uuid::Uuid;

in_both_modes![shared_world:
    an_order_that_can_be_met_is_confirmed_with_every_step_done_once,
    an_order_that_exceeds_the_stock_is_cancelled_and_nothing_is_charged_or_shipped,
    an_order_of_an_unknown_sku_is_cancelled_and_nothing_is_charged_or_shipped,
    of_64_buyers_at_once_of_the_last_10_units_exactly_10_are_confirmed,
    a_declined_card_releases_the_stock,
    an_unshippable_order_is_refunded_then_released_then_cancelled,
    a_flaky_card_is_charged_after_retries,
    a_card_that_never_answers_is_refused_in_the_end_and_delays_no_other_order,
    a_cancellation_that_finds_the_card_being_retried_ends_the_order_once,
    a_confirmed_order_can_no_longer_be_cancelled,
];

/// Longer than ten attempts take.
const RETRIES: Duration = Duration::from_secs(90);

/// Waits for the order's end.
async fn ended(world: &World, id: Uuid, within: Duration) -> Result<Value> {
    eventually(within, &format!("{id} ends"), async || {
        let order = world.order(id).await?;
        ensure!(order["status"] == "confirmed" || order["status"] == "cancelled", "{order}");
        Ok(order)
    })
    .await
}

async fn cancelled(world: &World, id: Uuid, reason: &str) -> Result<()> {
    let order = ended(world, id, PATIENCE).await?;
    ensure!(order["status"] == "cancelled" && order["reason"] == reason, "{order}");
    Ok(())
}

async fn an_order_that_can_be_met_is_confirmed_with_every_step_done_once(world: &World) -> Result<()> {
    let sku = world.stocked(10).await?;
    let order = Order::of(&sku, 3);
    let id = world.place(&order).await?;
    let shown = ended(world, id, PATIENCE).await?;
    ensure!(shown["status"] == "confirmed" && shown["reason"].is_null(), "{shown}");
    ensure!(shown["total_cents"] == order.total_cents(), "{shown}");
    let history: Vec<&str> =
        shown["history"].as_array().into_iter().flatten().filter_map(|e| e["event"].as_str()).collect();
    ensure!(history == ["order.created", "shipping.scheduled", "order.confirmed"], "{shown}");
    world.event(id, "order.confirmed").await?;
    let types = ["inventory.reserved", "order.confirmed", "order.created", "payment.charged", "shipping.scheduled"];
    ensure!(world.types(id) == types, "{:?}", world.types(id));
    ensure!(world.units(&sku).await? == (7, 3));
    let payment = json!({"order_id": id, "status": "charged", "amount_cents": order.total_cents()});
    ensure!(world.payment(id).await? == Some(payment));
    let sandbox = world.sandbox(id).await?.unwrap_or_default();
    ensure!(sandbox["calls"] == 1 && sandbox["captured_cents"] == order.total_cents(), "{sandbox}");
    ensure!(
        sandbox["refunded_cents"] == 0 && sandbox["idempotency_keys"].as_array().map(Vec::len) == Some(1),
        "{sandbox}"
    );
    let shipment = world.shipment(id).await?.unwrap_or_default();
    ensure!(shipment["status"] == "scheduled" && shipment["tracking_number"].is_string(), "{shipment}");
    Ok(())
}

/// Nothing was called, charged, shipped or reserved for the order.
async fn is_out_of_stock(world: &World, id: Uuid) -> Result<()> {
    cancelled(world, id, "out_of_stock").await?;
    world.event(id, "order.cancelled").await?;
    ensure!(world.types(id) == ["inventory.rejected", "order.cancelled", "order.created"], "{:?}", world.types(id));
    ensure!(world.payment(id).await?.is_none() && world.sandbox(id).await?.is_none());
    ensure!(world.shipment(id).await?.is_none());
    Ok(())
}

async fn an_order_that_exceeds_the_stock_is_cancelled_and_nothing_is_charged_or_shipped(world: &World) -> Result<()> {
    let sku = world.stocked(2).await?;
    let id = world.place(&Order::of(&sku, 3)).await?;
    is_out_of_stock(world, id).await?;
    ensure!(world.units(&sku).await? == (2, 0));
    Ok(())
}

async fn an_order_of_an_unknown_sku_is_cancelled_and_nothing_is_charged_or_shipped(world: &World) -> Result<()> {
    let sku = orders::sku();
    is_out_of_stock(world, world.place(&Order::of(&sku, 1)).await?).await?;
    ensure!(world.units(&sku).await.is_err(), "stock of an unknown SKU");
    Ok(())
}

async fn of_64_buyers_at_once_of_the_last_10_units_exactly_10_are_confirmed(world: &World) -> Result<()> {
    let sku = world.stocked(10).await?;
    let order = Order::of(&sku, 1);
    let ids = futures::future::try_join_all((0..64).map(|_| world.place(&order))).await?;
    let ends = futures::future::try_join_all(ids.iter().map(|id| ended(world, *id, PATIENCE))).await?;
    let confirmed = ends.iter().filter(|order| order["status"] == "confirmed").count();
    let refused = ends.iter().filter(|order| order["reason"] == "out_of_stock").count();
    ensure!((confirmed, refused) == (10, 54), "{confirmed} confirmed, {refused} out of stock");
    ensure!(world.units(&sku).await? == (0, 10), "{:?}", world.units(&sku).await);
    for (id, end) in ids.iter().zip(&ends) {
        let charged = world.sandbox(*id).await?.is_some();
        ensure!(charged == (end["status"] == "confirmed"), "{end}");
    }
    Ok(())
}

async fn a_declined_card_releases_the_stock(world: &World) -> Result<()> {
    let sku = world.stocked(5).await?;
    let id = world.place(&Order::of(&sku, 2).paid_by("tok_declined")).await?;
    cancelled(world, id, "payment_declined").await?;
    let end = world.event(id, "order.cancelled").await?;
    let released = world.event(id, "inventory.released").await?;
    let declined = world.event(id, "payment.declined").await?;
    ensure!(end.cause() == released.id && released.cause() == declined.id, "{:?}", world.history(id));
    ensure!(!released.is_null_compensation() && released.data["reason"] == "payment_declined", "{released:?}");
    ensure!(world.units(&sku).await? == (5, 0));
    let payment = world.payment(id).await?.unwrap_or_default();
    ensure!(payment["status"] == "declined", "{payment}");
    let sandbox = world.sandbox(id).await?.unwrap_or_default();
    ensure!(sandbox["captured_cents"] == 0 && sandbox["refunded_cents"] == 0, "{sandbox}");
    ensure!(world.shipment(id).await?.is_none());
    Ok(())
}

async fn an_unshippable_order_is_refunded_then_released_then_cancelled(world: &World) -> Result<()> {
    let sku = world.stocked(5).await?;
    let order = Order::of(&sku, 2).shipped_to("AQ");
    let id = world.place(&order).await?;
    cancelled(world, id, "unshippable").await?;
    let mut effect = world.event(id, "order.cancelled").await?;
    for cause in [
        "inventory.released",
        "payment.refunded",
        "shipping.rejected",
        "payment.charged",
        "inventory.reserved",
        "order.created",
    ] {
        let event = world.event(id, cause).await?;
        ensure!(effect.cause() == event.id, "{} does not follow from {cause}", effect.event_type);
        ensure!(!event.is_null_compensation(), "{event:?}");
        effect = event;
    }
    ensure!(world.history(id).len() == 7, "{:?}", world.types(id));
    ensure!(world.units(&sku).await? == (5, 0));
    let payment = world.payment(id).await?.unwrap_or_default();
    ensure!(payment["status"] == "refunded", "{payment}");
    let sandbox = world.sandbox(id).await?.unwrap_or_default();
    let total = order.total_cents();
    ensure!(
        sandbox["captured_cents"] == total && sandbox["refunded_cents"] == total && sandbox["calls"] == 1,
        "{sandbox}"
    );
    let shipment = world.shipment(id).await?.unwrap_or_default();
    ensure!(shipment["status"] == "rejected" && shipment["tracking_number"].is_null(), "{shipment}");
    Ok(())
}

async fn a_flaky_card_is_charged_after_retries(world: &World) -> Result<()> {
    let sku = world.stocked(5).await?;
    let order = Order::of(&sku, 1).paid_by("tok_flaky");
    let id = world.place(&order).await?;
    let shown = ended(world, id, PATIENCE).await?;
    ensure!(shown["status"] == "confirmed", "{shown}");
    let sandbox = world.sandbox(id).await?.unwrap_or_default();
    ensure!(sandbox["calls"] == 3 && sandbox["captured_cents"] == order.total_cents(), "{sandbox}");
    ensure!(sandbox["idempotency_keys"].as_array().map(Vec::len) == Some(1), "{sandbox}");
    Ok(())
}

async fn a_card_that_never_answers_is_refused_in_the_end_and_delays_no_other_order(world: &World) -> Result<()> {
    let sku = world.stocked(1000).await?;
    let slow = world.place(&Order::of(&sku, 1).paid_by("tok_timeout")).await?;
    let reserved = world.event(slow, "inventory.reserved").await?.place();
    eventually(PATIENCE, "the gateway was called", async || {
        ensure!(world.sandbox(slow).await?.is_some());
        Ok(())
    })
    .await?;
    // Partitions follow from ids: sooner or later another saga shares the partition of the slow one.
    loop {
        let quick = world.place(&Order::of(&sku, 1)).await?;
        let shown = ended(world, quick, PATIENCE).await?;
        ensure!(shown["status"] == "confirmed", "{shown}");
        if world.event(quick, "inventory.reserved").await?.place().partition == reserved.partition {
            break;
        }
    }
    let status = world.status(slow).await?;
    ensure!(status == "pending", "the slow order is {status}: the others did not wait for it");
    let shown = ended(world, slow, RETRIES).await?;
    ensure!(shown["status"] == "cancelled" && shown["reason"] == "payment_unavailable", "{shown}");
    let sandbox = world.sandbox(slow).await?.unwrap_or_default();
    ensure!(sandbox["calls"] == 10 && sandbox["captured_cents"] == 0, "{sandbox}");
    ensure!(sandbox["idempotency_keys"].as_array().map(Vec::len) == Some(1), "{sandbox}");
    ensure!(world.letters_of(slow).is_empty(), "a refusal is not dead-lettered");
    Ok(())
}

async fn a_cancellation_that_finds_the_card_being_retried_ends_the_order_once(world: &World) -> Result<()> {
    let sku = world.stocked(5).await?;
    let id = world.place(&Order::of(&sku, 1).paid_by("tok_timeout")).await?;
    eventually(PATIENCE, "the gateway was called", async || {
        ensure!(world.sandbox(id).await?.is_some());
        Ok(())
    })
    .await?;
    let answer = world.cancel(id).await?;
    ensure!(answer.status == 202, "{answer:?}");
    let shown = ended(world, id, RETRIES).await?;
    ensure!(shown["status"] == "cancelled" && shown["reason"] == "cancelled_by_customer", "{shown}");
    // The refusal and the cancellation meet: the second finds nothing left to compensate, and publishes nothing.
    let last = world.event(id, "shipping.cancelled").await?;
    world.done(Who::Payment, &last.place()).await?;
    eventually(PATIENCE, "the items are released, and nothing was captured", async || {
        ensure!(world.units(&sku).await? == (5, 0), "{:?}", world.units(&sku).await);
        let sandbox = world.sandbox(id).await?.unwrap_or_default();
        ensure!(sandbox["captured_cents"] == 0 && sandbox["refunded_cents"] == 0, "{sandbox}");
        Ok(())
    })
    .await?;
    for once in ["inventory.released", "order.cancelled"] {
        ensure!(world.count(id, once) == 1, "{once}: {:?}", world.types(id));
    }
    ensure!(world.shipment(id).await?.is_none() && world.letters_of(id).is_empty());
    Ok(())
}

async fn a_confirmed_order_can_no_longer_be_cancelled(world: &World) -> Result<()> {
    let sku = world.stocked(1).await?;
    let id = world.place(&Order::of(&sku, 1)).await?;
    ended(world, id, PATIENCE).await?;
    let answer = world.cancel(id).await?;
    ensure!(answer.status == 409 && answer.is_problem(), "{answer:?}");
    ensure!(world.status(id).await? == "confirmed");
    ensure!(world.count(id, "order.cancellation_requested") == 0);
    Ok(())
}

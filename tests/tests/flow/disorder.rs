//! Events that arrive before the events they follow from: topics have no order among each other.

use anyhow::{Result, ensure};
use saga_tests::{
    PATIENCE, Who, World, eventually, in_both_modes,
    orders::{Order, event},
};
use serde_json::json;
use uuid::Uuid;

in_both_modes![shared_world:
    a_saga_whose_events_all_come_in_reverse_order_is_confirmed_once,
    a_parcel_scheduled_before_its_order_is_known_confirms_the_order_once,
    a_cancellation_before_the_order_closes_every_participant_to_it,
    a_refused_parcel_before_the_charge_closes_payment_and_inventory,
    a_declined_card_before_the_reservation_closes_inventory,
];

async fn is_confirmed_once(world: &World, id: Uuid, order: &Order, left: i64) -> Result<()> {
    eventually(PATIENCE, "all four have done their part", async || {
        ensure!(world.units(&order.sku).await? == (left, order.quantity), "{:?}", world.units(&order.sku).await);
        let sandbox = world.sandbox(id).await?.unwrap_or_default();
        ensure!(sandbox["captured_cents"] == order.total_cents() && sandbox["refunded_cents"] == 0, "{sandbox}");
        let shipment = world.shipment(id).await?.unwrap_or_default();
        ensure!(shipment["status"] == "scheduled", "{shipment}");
        let shown = world.order(id).await?;
        ensure!(shown["status"] == "confirmed" && shown["total_cents"] == order.total_cents(), "{shown}");
        Ok(())
    })
    .await?;
    ensure!(world.sandbox(id).await?.unwrap_or_default()["calls"] == 1);
    world.event(id, "order.confirmed").await?;
    ensure!(world.count(id, "order.cancelled") == 0 && world.letters_of(id).is_empty());
    Ok(())
}

async fn a_saga_whose_events_all_come_in_reverse_order_is_confirmed_once(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(5).await?, 2);
    let id = Uuid::new_v4();
    let scheduled = json!({"order_id": id, "tracking_number": "TRK-1"});
    let charged = json!({"order_id": id, "shipping_address": order.body()["shipping_address"]});
    let place = world.produce(event("shipping.scheduled", id, &scheduled)).await?;
    world.done(Who::Order, &place).await?;
    let place = world.produce(event("payment.charged", id, &charged)).await?;
    world.done(Who::Shipping, &place).await?;
    let place = world.produce(event("inventory.reserved", id, &order.reserved(id))).await?;
    world.done(Who::Payment, &place).await?;
    let place = world.produce(event("order.created", id, &order.created(id))).await?;
    world.done(Who::Order, &place).await?;
    world.done(Who::Inventory, &place).await?;
    is_confirmed_once(world, id, &order, 3).await
}

async fn a_parcel_scheduled_before_its_order_is_known_confirms_the_order_once(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(5).await?, 1);
    let id = Uuid::new_v4();
    let scheduled = json!({"order_id": id, "tracking_number": "TRK-1"});
    let place = world.produce(event("shipping.scheduled", id, &scheduled)).await?;
    world.done(Who::Order, &place).await?;
    let shown = world.order(id).await?;
    ensure!(shown["status"] == "confirmed" && shown["total_cents"].is_null(), "{shown}");
    world.produce(event("order.created", id, &order.created(id))).await?;
    is_confirmed_once(world, id, &order, 4).await
}

/// Everything that an order's forward events could still do is compensated in advance.
async fn is_closed(world: &World, id: Uuid, order: &Order, late: &[(&str, Who)]) -> Result<()> {
    let counted = async |who| world.metric(who, "saga_late_actions_total", "").await;
    for (event_type, who) in late {
        let data = match *event_type {
            "order.created" => order.created(id),
            "inventory.reserved" => order.reserved(id),
            _ => json!({"order_id": id, "shipping_address": order.body()["shipping_address"]}),
        };
        let before = counted(*who).await?;
        let place = world.produce(event(event_type, id, &data)).await?;
        world.done(*who, &place).await?;
        ensure!(counted(*who).await? >= before + 1.0, "{event_type} was not counted as late by {who}");
        if *event_type == "order.created" {
            world.done(Who::Order, &place).await?;
        }
    }
    ensure!(world.units(&order.sku).await? == (5, 0), "{:?}", world.units(&order.sku).await);
    ensure!(world.sandbox(id).await?.is_none(), "the gateway was called: {:?}", world.sandbox(id).await);
    ensure!(world.payment(id).await?.is_none() && world.shipment(id).await?.is_none());
    ensure!(world.status(id).await? == "cancelled");
    for once in ["order.cancelled", "inventory.released"] {
        ensure!(world.count(id, once) == 1, "{:?}", world.types(id));
    }
    ensure!(world.letters_of(id).is_empty(), "{:?}", world.letters_of(id));
    Ok(())
}

/// The chain of compensations passes through participants that have done nothing, each as a null compensation.
async fn follow_nulls(world: &World, id: Uuid, chain: &[&str], reason: &str) -> Result<()> {
    for event_type in chain {
        let compensated = world.event(id, event_type).await?;
        ensure!(compensated.is_null_compensation() && compensated.data["reason"] == reason, "{compensated:?}");
    }
    let end = world.event(id, "order.cancelled").await?;
    ensure!(end.data["reason"] == reason && !end.is_null_compensation(), "{end:?}");
    Ok(())
}

async fn a_cancellation_before_the_order_closes_every_participant_to_it(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(5).await?, 1);
    let id = Uuid::new_v4();
    world.produce(event("order.cancellation_requested", id, &json!({"order_id": id}))).await?;
    let chain = ["shipping.cancelled", "payment.refunded", "inventory.released"];
    follow_nulls(world, id, &chain, "cancelled_by_customer").await?;
    let late =
        [("order.created", Who::Inventory), ("inventory.reserved", Who::Payment), ("payment.charged", Who::Shipping)];
    is_closed(world, id, &order, &late).await?;
    let shown = world.order(id).await?;
    ensure!(shown["total_cents"] == order.total_cents(), "the late order was not registered: {shown}");
    let answer = world.cancel(id).await?;
    ensure!(answer.status == 200 && answer.body["status"] == "cancelled", "{answer:?}");
    Ok(())
}

async fn a_refused_parcel_before_the_charge_closes_payment_and_inventory(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(5).await?, 1);
    let id = Uuid::new_v4();
    world.produce(event("shipping.rejected", id, &json!({"order_id": id, "reason": "unshippable"}))).await?;
    follow_nulls(world, id, &["payment.refunded", "inventory.released"], "unshippable").await?;
    is_closed(world, id, &order, &[("order.created", Who::Inventory), ("inventory.reserved", Who::Payment)]).await
}

async fn a_declined_card_before_the_reservation_closes_inventory(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(5).await?, 1);
    let id = Uuid::new_v4();
    // A reason that this version does not know is passed on.
    world.produce(event("payment.declined", id, &json!({"order_id": id, "reason": "card_stolen"}))).await?;
    follow_nulls(world, id, &["inventory.released"], "card_stolen").await?;
    is_closed(world, id, &order, &[("order.created", Who::Inventory)]).await
}

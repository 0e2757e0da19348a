//! An event that is published twice has one effect.

use anyhow::{Result, ensure};
use reqwest::Method;
use saga_core::record::{Header, OutRecord};
use saga_tests::{
    Answer, PATIENCE, Seen, Who, World, eventually,
    http::{accepted, send},
    in_both_modes,
    orders::{Order, event, with_header},
};
use uuid::Uuid;

in_both_modes![shared_world:
    the_same_event_twice_has_one_effect,
    the_same_fact_under_another_event_id_has_one_effect,
    the_same_compensation_under_another_event_id_has_one_effect,
    the_same_idempotency_key_twice_makes_one_order_and_gives_the_same_answer,
];

/// The services that consume the event.
fn consumers(event_type: &str) -> &'static [Who] {
    match event_type {
        "order.created" => &[Who::Order, Who::Inventory],
        "order.cancellation_requested" | "payment.charged" => &[Who::Shipping],
        "inventory.reserved" | "shipping.rejected" | "shipping.cancelled" => &[Who::Payment],
        "payment.declined" | "payment.refunded" => &[Who::Inventory],
        "inventory.rejected" | "inventory.released" | "shipping.scheduled" => &[Who::Order],
        _ => &[],
    }
}

/// Produces the event again, with the same headers or under a new id, and waits until its consumers have handled it.
async fn repeat(world: &World, seen: &Seen, under_a_new_id: bool) -> Result<()> {
    let mut headers: Vec<Header> =
        seen.record.headers.iter().filter(|header| !header.is("test-mark")).cloned().collect();
    if under_a_new_id {
        headers.retain(|header| !header.is("ce_id"));
        headers.push(Header::text("ce_id", Uuid::new_v4().to_string()));
    }
    let record = OutRecord {
        topic: seen.record.topic.to_string().into(),
        key: seen.record.key.clone(),
        value: seen.record.value.clone(),
        headers,
    };
    let place = world.produce(record).await?;
    for who in consumers(&seen.event_type) {
        world.done(*who, &place).await?;
    }
    Ok(())
}

/// Takes a saga to its end, repeats each of its events, and compares the state before and after.
async fn repeat_all(world: &World, order: Order, end: &str, under_a_new_id: bool) -> Result<()> {
    let sku = order.sku.clone();
    let id = Uuid::new_v4();
    let created = with_header(event("order.created", id, &order.created(id)), "ce_id", Uuid::new_v4().to_string());
    world.produce(created).await?;
    world.event(id, end).await?;
    let look = async || {
        Ok::<_, anyhow::Error>((
            world.order(id).await?,
            world.units(&sku).await?,
            world.payment(id).await?,
            world.sandbox(id).await?,
            world.shipment(id).await?,
        ))
    };
    let (before, history) = (look().await?, world.history(id));
    for seen in &history {
        repeat(world, seen, under_a_new_id).await?;
    }
    let after = look().await?;
    ensure!(before == after, "{before:?} has become {after:?}");
    // Each event under a new id adds one of its type; none of them has caused another event.
    let times = if under_a_new_id { 2 } else { 1 };
    for seen in &history {
        let count = world.count(id, &seen.event_type);
        ensure!(count == times, "{count} of {}", seen.event_type);
    }
    ensure!(world.letters_of(id).is_empty(), "{:?}", world.letters_of(id));
    Ok(())
}

async fn the_same_event_twice_has_one_effect(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(10).await?, 2);
    repeat_all(world, order, "order.confirmed", false).await
}

async fn the_same_fact_under_another_event_id_has_one_effect(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(10).await?, 2);
    repeat_all(world, order, "order.confirmed", true).await
}

async fn the_same_compensation_under_another_event_id_has_one_effect(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(10).await?, 2).shipped_to("AQ");
    // The end of a cancelled order may be published again: it has no consumer, and its content is the same.
    let sku = order.sku.clone();
    let id = Uuid::new_v4();
    world.produce(event("order.created", id, &order.created(id))).await?;
    world.event(id, "order.cancelled").await?;
    let before = (world.sandbox(id).await?, world.units(&sku).await?);
    for compensating in ["shipping.rejected", "payment.refunded"] {
        repeat(world, &world.event(id, compensating).await?, true).await?;
    }
    ensure!(before == (world.sandbox(id).await?, world.units(&sku).await?));
    for once in ["payment.charged", "inventory.released", "order.cancelled"] {
        ensure!(world.count(id, once) == 1, "{once}: {:?}", world.types(id));
    }
    Ok(())
}

async fn the_same_idempotency_key_twice_makes_one_order_and_gives_the_same_answer(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(10).await?, 1);
    let key = Uuid::new_v4().to_string();
    let post = async |body| -> Result<Answer> {
        let request = world.request(Who::Order, Method::POST, "/orders")?.header("idempotency-key", &key);
        send(request.json(&body)).await
    };
    let answers = futures::future::try_join_all((0..8).map(|_| post(order.body()))).await?;
    let id = accepted(&answers[0])?;
    for answer in &answers {
        ensure!(accepted(answer)? == id && answer.header("location") == format!("/orders/{id}"), "{answer:?}");
    }
    let other = post(Order::of(&order.sku, 2).body()).await?;
    ensure!(other.status == 422 && other.is_problem(), "{other:?}");
    world.event(id, "order.confirmed").await?;
    let again = post(order.body()).await?;
    ensure!(accepted(&again)? == id, "{again:?}");
    ensure!(world.of_customer(order.customer).len() == 1, "{:?}", world.of_customer(order.customer));
    ensure!(world.units(&order.sku).await? == (9, 1));
    // Without a key every request creates a new order.
    let (one, two) = (world.place(&order).await?, world.place(&order).await?);
    ensure!(one != two);
    eventually(PATIENCE, "both are confirmed", async || {
        ensure!(world.units(&order.sku).await? == (7, 3));
        Ok(())
    })
    .await
}

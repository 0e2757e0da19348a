//! A deadline is stored in the database: it fires whether the order service runs at that time or not.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use saga_tests::{
    PATIENCE, Who, World, eventually,
    http::{accepted, send},
    in_both_modes,
    orders::Order,
};

in_both_modes![own_world: an_order_whose_deadline_passes_is_compensated_also_across_a_restart];

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn restart(world: &World, who: Who, variables: &[(&str, &str)]) -> Result<()> {
    let (status, _) = world.terminate(who, 0).await?;
    ensure!(status.success(), "{who}: {status}");
    world.launch(who, 0, variables).await?;
    world.ready(who).await
}

async fn an_order_whose_deadline_passes_is_compensated_also_across_a_restart(world: &World) -> Result<()> {
    let sku = world.stocked(5).await?;
    restart(world, Who::Order, &[("SAGA_DEADLINE", "3s")]).await?;
    let in_time = world.place(&Order::of(&sku, 1)).await?;
    world.event(in_time, "order.confirmed").await?;

    // No participant reserves the items, so the order waits.
    world.terminate(Who::Inventory, 0).await?;
    let order = Order::of(&sku, 1);
    let request = world.request(Who::Order, Method::POST, "/orders")?.header("traceparent", TRACEPARENT);
    let late = accepted(&send(request.json(&order.body())).await?)?;
    let place = world.event(late, "order.created").await?.place();
    world.done(Who::Order, &place).await?;
    // The new process would arm a deadline of five minutes; it finds the one that is armed already.
    restart(world, Who::Order, &[]).await?;
    let requested = world.event(late, "order.cancellation_requested").await?;
    ensure!(requested.data["reason"] == "deadline", "{requested:?}");
    ensure!(requested.header("traceparent").as_deref() == Some(TRACEPARENT), "the trace ends: {requested:?}");
    let shown = world.order(late).await?;
    ensure!(shown["status"] == "cancelling" && shown["reason"] == "deadline", "{shown}");

    world.launch(Who::Inventory, 0, &[]).await?;
    let end = world.event(late, "order.cancelled").await?;
    ensure!(end.data["reason"] == "deadline", "{end:?}");
    eventually(PATIENCE, "nothing is reserved", async || {
        ensure!(world.units(&sku).await? == (4, 1), "{:?}", world.units(&sku).await);
        let sandbox = world.sandbox(late).await?;
        let kept = sandbox.map_or(Some(0), |s| Some(s["captured_cents"].as_i64()? - s["refunded_cents"].as_i64()?));
        ensure!(kept.context("the ledger")? == 0);
        Ok(())
    })
    .await?;
    // The other order's deadline has passed as well, without effect.
    ensure!(world.status(in_time).await? == "confirmed");
    ensure!(world.count(in_time, "order.cancellation_requested") == 0, "{:?}", world.types(in_time));
    Ok(())
}

//! A broker and a database that fail under load, and return.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use saga_tests::{Mode, PATIENCE, Who, World, eventually, in_both_modes, invariants, load, orders::Order, own_world};

use super::kill::more_orders;

in_both_modes![own_world: a_broker_that_goes_away_under_load_loses_nothing];

async fn waits(world: &World, who: Who, status: u16) -> Result<()> {
    eventually(PATIENCE, &format!("{who}: readiness {status}"), async || {
        let answer = world.get(who, "/readyz").await?;
        ensure!(answer.status == status, "{answer:?}");
        Ok(())
    })
    .await
}

async fn a_broker_that_goes_away_under_load_loses_nothing(world: &World) -> Result<()> {
    let sku = world.stocked(100_000).await?;
    let outage = async {
        more_orders(world, 12).await?;
        world.broker().take_away().await?;
        futures::future::try_join_all(Who::ALL.map(|who| waits(world, who, 503))).await?;
        // The customer observes no difference: the order waits in the outbox.
        let order = Order::of(&sku, 0);
        ensure!(world.post(&order).await?.status == 422, "the service answers");
        world.broker().bring_back().await?;
        futures::future::try_join_all(Who::ALL.map(|who| waits(world, who, 200))).await?;
        more_orders(world, 12).await
    };
    let placed = load::during(world, &sku, Duration::from_millis(80), outage).await?;
    let confirmed = invariants::check(world, &placed, &sku, 100_000).await?;
    ensure!(confirmed > 10, "only {confirmed} of {} were confirmed", placed.len());
    Ok(())
}

mod a_database_whose_connections_break_under_load_loses_nothing {
    /// SQLite has no connections that can break.
    #[test]
    fn live() {
        super::own_world(super::Mode::Live, super::connections_break);
    }
}

async fn connections_break(world: &World) -> Result<()> {
    let sku = world.stocked(100_000).await?;
    let door = world.door().context("no door")?;
    let cuts = async {
        // Often, at random times: before a statement, during a commit, between a commit and its response.
        for n in 0..40 {
            more_orders(world, 1 + n % 3).await?;
            door.cut(false);
        }
        // And once for a longer time.
        door.cut(true);
        futures::future::try_join_all(Who::ALL.map(|who| waits(world, who, 503))).await?;
        door.open();
        futures::future::try_join_all(Who::ALL.map(|who| waits(world, who, 200))).await?;
        more_orders(world, 12).await
    };
    let placed = load::during(world, &sku, Duration::from_millis(40), cuts).await?;
    let confirmed = invariants::check(world, &placed, &sku, 100_000).await?;
    ensure!(confirmed > 10, "only {confirmed} of {} were confirmed", placed.len());
    Ok(())
}

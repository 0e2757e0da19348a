//! SIGKILL under load: at any point of its work, every saga ends and no effect happens twice.

use std::time::Duration;

use anyhow::{Result, ensure};
use saga_tests::{PATIENCE, Who, World, eventually, in_both_modes, invariants, load};

in_both_modes![own_world: services_that_are_killed_under_load_finish_every_saga_after_their_restart];

/// Waits until this many more orders were published.
pub(crate) async fn more_orders(world: &World, count: usize) -> Result<()> {
    let before = world.total("order.created");
    eventually(PATIENCE, "orders are published", async || {
        ensure!(world.total("order.created") >= before + count);
        Ok(())
    })
    .await
}

async fn services_that_are_killed_under_load_finish_every_saga_after_their_restart(world: &World) -> Result<()> {
    let sku = world.stocked(100_000).await?;
    let kills = async {
        for who in Who::ALL {
            more_orders(world, 12).await?;
            world.kill(who, 0)?;
            world.launch(who, 0, &[]).await?;
        }
        more_orders(world, 12).await?;
        for who in Who::ALL {
            world.kill(who, 0)?;
        }
        futures::future::try_join_all(Who::ALL.map(|who| world.launch(who, 0, &[]))).await?;
        more_orders(world, 12).await
    };
    let placed = load::during(world, &sku, Duration::from_millis(40), kills).await?;
    let confirmed = invariants::check(world, &placed, &sku, 100_000).await?;
    ensure!(confirmed > 10, "only {confirmed} of {} were confirmed", placed.len());
    Ok(())
}

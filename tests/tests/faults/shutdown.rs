//! SIGTERM under load: each service stops gracefully, and continues its work after a restart.

use std::time::Duration;

use anyhow::{Result, ensure};
use saga_tests::{Who, World, in_both_modes, invariants, load};

in_both_modes![own_world: services_that_are_stopped_under_load_end_in_time_and_nothing_is_lost_or_done_twice];

async fn services_that_are_stopped_under_load_end_in_time_and_nothing_is_lost_or_done_twice(
    world: &World,
) -> Result<()> {
    let sku = world.stocked(100_000).await?;
    let restarts = async {
        for who in Who::ALL.into_iter().chain([Who::Order]) {
            super::kill::more_orders(world, 10).await?;
            let (status, took) = world.terminate(who, 0).await?;
            ensure!(status.code() == Some(0), "{who}: {status}");
            ensure!(took < Duration::from_secs(10), "{who} took {took:?}");
            world.launch(who, 0, &[]).await?;
            world.ready(who).await?;
        }
        Ok(())
    };
    let placed = load::during(world, &sku, Duration::from_millis(40), restarts).await?;
    let confirmed = invariants::check(world, &placed, &sku, 100_000).await?;
    ensure!(confirmed > 10, "only {confirmed} of {} were confirmed", placed.len());
    Ok(())
}

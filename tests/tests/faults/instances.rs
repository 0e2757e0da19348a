//! Two processes of each service: they share the partitions, and one takes over from the other.

use std::time::Duration;

use anyhow::{Result, ensure};
use saga_tests::{PATIENCE, Who, World, eventually, in_both_modes, invariants, load};

in_both_modes![own_world: two_processes_of_each_service_share_the_work_and_every_saga_ends_once];

async fn two_processes_of_each_service_share_the_work_and_every_saga_ends_once(world: &World) -> Result<()> {
    let sku = world.stocked(100_000).await?;
    let changes = async {
        super::kill::more_orders(world, 5).await?;
        futures::future::try_join_all(Who::ALL.map(|who| world.launch(who, 1, &[]))).await?;
        eventually(PATIENCE, "both processes of each service have partitions", async || {
            for who in Who::ALL {
                for instance in [0, 1] {
                    let partitions = world.partitions(who, instance).await?;
                    ensure!(partitions > 0, "{who} {instance} has none");
                }
            }
            Ok(())
        })
        .await?;
        super::kill::more_orders(world, 10).await?;
        // The first process of each service stops gracefully, and starts again.
        for who in Who::ALL {
            let (status, took) = world.terminate(who, 0).await?;
            ensure!(status.code() == Some(0) && took < Duration::from_secs(10), "{who}: {status} after {took:?}");
            world.launch(who, 0, &[]).await?;
        }
        super::kill::more_orders(world, 10).await?;
        // The second process of each service is killed.
        Who::ALL.into_iter().try_for_each(|who| world.kill(who, 1))?;
        super::kill::more_orders(world, 10).await
    };
    let placed = load::during(world, &sku, Duration::from_millis(40), changes).await?;
    invariants::check(world, &placed, &sku, 100_000).await?;
    Ok(())
}

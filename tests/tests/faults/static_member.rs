//! A service with static membership in its group: a restart after a crash causes no rebalance.

use std::time::Duration;

use anyhow::{Result, ensure};
use saga_tests::{Mode, Who, World, eventually, orders::Order, own_world};

mod a_killed_service_with_an_instance_id_takes_its_partitions_back_at_once {
    /// The embedded broker has no static membership.
    #[test]
    fn live() {
        super::own_world(super::Mode::Live, super::a_member_comes_back);
    }
}

async fn a_member_comes_back(world: &World) -> Result<()> {
    let sku = world.stocked(10).await?;
    // The group notices a member that stays away only after the default of 45 s.
    let variables = [("SAGA_INSTANCE_ID", "payment-1"), ("KAFKA_CFG_SESSION_TIMEOUT_MS", "45000")];
    world.terminate(Who::Payment, 0).await?;
    world.launch(Who::Payment, 0, &variables).await?;
    world.event(world.place(&Order::of(&sku, 1)).await?, "order.confirmed").await?;
    world.kill(Who::Payment, 0)?;
    let id = world.place(&Order::of(&sku, 1)).await?;
    world.launch(Who::Payment, 0, &variables).await?;
    eventually(Duration::from_secs(25), "the order is confirmed", async || {
        ensure!(world.status(id).await? == "confirmed");
        Ok(())
    })
    .await?;
    // With dynamic membership again, it waits until the group has removed the static member.
    world.terminate(Who::Payment, 0).await?;
    world.launch(Who::Payment, 0, &[]).await
}

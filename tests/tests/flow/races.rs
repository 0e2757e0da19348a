//! Two who want different things of one order at the same moment.

use std::time::Duration;

use anyhow::{Result, ensure};
use saga_tests::{World, in_both_modes, invariants, load::Placed, orders::Order};

in_both_modes![shared_world: a_cancellation_that_races_the_confirmation_ends_in_one_of_the_two];

async fn a_cancellation_that_races_the_confirmation_ends_in_one_of_the_two(world: &World) -> Result<()> {
    let sku = world.stocked(1000).await?;
    let race = async |head_start: Duration| -> Result<(Placed, u16)> {
        let order = Order::of(&sku, 1);
        let id = world.place(&order).await?;
        tokio::time::sleep(head_start).await;
        let status = world.cancel(id).await?.status;
        Ok((Placed { id, order, reason: Some("cancelled_by_customer"), races: true }, status))
    };
    // From well before the confirmation to well after it, as fast or slow as the machine may be.
    let races = (0..60).map(|n| race(Duration::from_millis(n * 8)));
    let (placed, answers): (Vec<Placed>, Vec<u16>) = futures::future::try_join_all(races).await?.into_iter().unzip();
    invariants::check(world, &placed, &sku, 1000).await?;
    for (placed, answer) in placed.iter().zip(&answers) {
        // What the customer was told is what has happened.
        let confirmed = placed.ended(world).await?;
        ensure!(*answer == if confirmed { 409 } else { 202 }, "answered {answer}, confirmed: {confirmed}");
    }
    ensure!(answers.contains(&202), "no cancellation came in time: {answers:?}");
    Ok(())
}

//! Two conflicting requests for one order at the same time.

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
    // The head start follows the outcomes, so that the races gather around the time of the confirmation on any machine.
    let mut head_start = Duration::from_millis(20);
    let mut placed = Vec::new();
    let mut answers = Vec::new();
    for _ in 0..60 {
        let (order, answer) = race(head_start).await?;
        head_start = if answer == 202 { head_start * 4 / 3 + Duration::from_millis(1) } else { head_start * 3 / 4 };
        placed.push(order);
        answers.push(answer);
    }
    invariants::check(world, &placed, &sku, 1000).await?;
    for (placed, answer) in placed.iter().zip(&answers) {
        // The response to the customer matches the outcome.
        let confirmed = placed.ended(world).await?;
        ensure!(*answer == if confirmed { 409 } else { 202 }, "answered {answer}, confirmed: {confirmed}");
    }
    ensure!(answers.contains(&202) && answers.contains(&409), "all ended alike, so nothing raced: {answers:?}");
    Ok(())
}

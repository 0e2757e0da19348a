//! What holds for any number of orders, whatever happened to the services on the way.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};

use super::{World, load::Placed};
use crate::{PATIENCE, eventually};

/// Requests at once.
const AT_ONCE: usize = 8;

/// Waits until every order has ended, and checks each of them and the stock: nothing twice, nothing lost, nothing held
/// or kept for an order that was cancelled. Answers how many were confirmed.
///
/// # Errors
/// When one of this does not hold.
pub async fn check(world: &World, placed: &[Placed], sku: &str, stocked: i64) -> Result<usize> {
    let confirmed: Vec<bool> = stream::iter(placed)
        .map(async |order| {
            let confirmed = order.ended(world).await?;
            effects(world, order, confirmed).await.with_context(|| format!("order {}", order.id))?;
            Ok::<_, anyhow::Error>(confirmed)
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let sold: i64 =
        placed.iter().zip(&confirmed).filter(|(_, yes)| **yes).map(|(placed, _)| placed.order.quantity).sum();
    let (available, reserved) = world.units(sku).await?;
    ensure!((available, reserved) == (stocked - sold, sold), "{available} + {reserved}, {sold} sold of {stocked}");
    let panics = world.panics()?;
    ensure!(panics.is_empty(), "{panics:?}");
    Ok(confirmed.into_iter().filter(|yes| *yes).count())
}

async fn effects(world: &World, placed: &Placed, confirmed: bool) -> Result<()> {
    let (id, total) = (placed.id, placed.order.total_cents());
    // The customer may see the end before the last service has written everything.
    eventually(PATIENCE, "the books agree", async || {
        let (sandbox, shipment) = (world.sandbox(id).await?, world.shipment(id).await?);
        let cents = |field: &str| sandbox.as_ref().map_or(Some(0), |ledger| ledger[field].as_i64());
        let (captured, refunded) = (cents("captured_cents"), cents("refunded_cents"));
        let shipped = shipment.as_ref().is_some_and(|shipment| shipment["status"] == "scheduled");
        let keys = sandbox.as_ref().and_then(|ledger| ledger["idempotency_keys"].as_array().map(Vec::len));
        ensure!(keys.unwrap_or(1) == 1, "more than one charge: {sandbox:?}");
        if confirmed {
            ensure!(captured == Some(total) && refunded == Some(0), "{sandbox:?}");
            ensure!(shipped, "{shipment:?}");
        } else {
            ensure!(captured == refunded && captured.is_some(), "{sandbox:?}");
            ensure!(captured == Some(0) || captured == Some(total), "{sandbox:?}");
            ensure!(!shipped, "{shipment:?}");
        }
        let end = if confirmed { "order.confirmed" } else { "order.cancelled" };
        let types = world.types(id);
        ensure!(types.iter().any(|seen| seen == end), "no {end}: {types:?}");
        Ok(())
    })
    .await?;
    let mut types = world.types(id);
    let all = types.len();
    types.dedup();
    ensure!(types.len() == all, "an event twice, under two ids: {:?}", world.types(id));
    let ends = types.iter().filter(|seen| ["order.confirmed", "order.cancelled"].contains(&seen.as_str())).count();
    ensure!(ends == 1, "{ends} ends: {types:?}");
    let letters = world.letters_of(id);
    ensure!(letters.is_empty(), "dead letters: {letters:?}");
    Ok(())
}

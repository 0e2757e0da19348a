//! Orders of every kind, placed one after the other while something happens to the services.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream::FuturesUnordered};
use reqwest::Method;
use uuid::Uuid;

use super::{
    Who, World,
    http::{accepted, send},
    orders::Order,
};
use crate::eventually;

/// Longer than any fault of a test.
const PATIENCE: Duration = Duration::from_secs(90);

/// An order that was placed, and the ends it may come to.
pub struct Placed {
    /// Its id.
    pub id: Uuid,
    /// What was ordered.
    pub order: Order,
    /// The only reason to be cancelled for; none when it must be confirmed.
    pub reason: Option<&'static str>,
    /// Whether it may be confirmed too: its cancellation raced.
    pub races: bool,
}

/// Every eighth order is of the same kind.
fn kind(number: usize, sku: &str) -> (Order, Option<&'static str>, bool) {
    let order = Order::of(sku, 1 + i64::try_from(number % 3).unwrap_or_default());
    match number % 8 {
        0 => (order.paid_by("tok_declined"), Some("payment_declined"), false),
        1 => (order.shipped_to("AQ"), Some("unshippable"), false),
        2 => (order, Some("cancelled_by_customer"), true),
        3 => (Order::of("no such SKU", 1), Some("out_of_stock"), false),
        4 => (order.paid_by("tok_flaky"), None, false),
        _ => (order, None, false),
    }
}

/// Places orders of this SKU, one every `pace`, for as long as `meanwhile` takes.
///
/// # Errors
/// When an order is not accepted in the end, or `meanwhile` fails.
pub async fn during(
    world: &World,
    sku: &str,
    pace: Duration,
    meanwhile: impl Future<Output = Result<()>>,
) -> Result<Vec<Placed>> {
    let mut ticks = tokio::time::interval(pace);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut under_way, mut placed, mut number) = (FuturesUnordered::new(), Vec::new(), 0);
    let mut meanwhile = std::pin::pin!(meanwhile);
    loop {
        tokio::select! {
            ended = &mut meanwhile => {
                ended?;
                break;
            }
            Some(order) = under_way.next() => placed.push(order?),
            _ = ticks.tick() => {
                under_way.push(place(world, kind(number, sku)));
                number += 1;
            }
        }
    }
    while let Some(order) = under_way.next().await {
        placed.push(order?);
    }
    Ok(placed)
}

/// As a careful customer does: asks again, under the same key, until there is an answer.
async fn place(world: &World, (order, reason, races): (Order, Option<&'static str>, bool)) -> Result<Placed> {
    let key = order.customer.to_string();
    let id = eventually(PATIENCE, "the order is accepted", async || {
        let request = world.request(Who::Order, Method::POST, "/orders")?.header("idempotency-key", &key);
        accepted(&send(request.json(&order.body())).await?)
    })
    .await?;
    if races {
        eventually(PATIENCE, "the cancellation is answered", async || {
            let answer = world.cancel(id).await?;
            ensure!([200, 202, 409].contains(&answer.status), "{answer:?}");
            Ok(())
        })
        .await?;
    }
    Ok(Placed { id, order, reason, races })
}

impl Placed {
    /// Waits for the order's end, and says whether it was confirmed.
    ///
    /// # Errors
    /// When it does not end, or not as it must.
    pub async fn ended(&self, world: &World) -> Result<bool> {
        let order = eventually(PATIENCE, &format!("{} ends", self.id), async || {
            let order = world.order(self.id).await?;
            ensure!(order["status"] == "confirmed" || order["status"] == "cancelled", "{order}");
            Ok(order)
        })
        .await?;
        let confirmed = order["status"] == "confirmed";
        ensure!(if confirmed { self.reason.is_none() || self.races } else { self.reason.is_some() }, "{order}");
        let reason = order["reason"].as_str();
        ensure!(reason == self.reason.filter(|_| !confirmed), "{order}");
        order["total_cents"].as_i64().filter(|total| *total == self.order.total_cents()).context("the total")?;
        Ok(confirmed)
    }
}

//! Many HTTP clients that send requests as fast as they can, and orders through Kafka at the same time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use jiff::Timestamp;
use reqwest::{Method, RequestBuilder};
use saga_tests::{
    Mode, Who, World,
    orders::{Order, event},
    own_world,
};
use tokio::task::JoinSet;
use uuid::Uuid;

const CLIENTS: usize = 64;
/// The pace of the orders through Kafka.
const PACE: Duration = Duration::from_millis(100);
const ORDERS: u32 = 200;
const P99: Duration = Duration::from_secs(2);

#[test]
#[ignore = "a measurement: cargo test --release -p saga-tests --test faults crowd -- --ignored --nocapture"]
fn orders_through_kafka_do_not_wait_for_a_crowd_that_reads() {
    own_world(Mode::Live, async |world| measure(world, "reads", || read(world)).await);
}

#[test]
#[ignore = "a measurement: cargo test --release -p saga-tests --test faults crowd -- --ignored --nocapture"]
fn orders_through_kafka_do_not_wait_for_a_crowd_that_writes() {
    own_world(Mode::Live, async |world| {
        let sku = world.stocked(1).await?;
        measure(world, "writes", || write(world, &sku)).await
    });
}

/// An unknown order: a read of the database.
fn read(world: &World) -> Result<RequestBuilder> {
    world.request(Who::Order, Method::GET, &format!("/orders/{}", Uuid::new_v4()))
}

/// A transaction that starts no saga.
fn write(world: &World, sku: &str) -> Result<RequestBuilder> {
    let request = world.request(Who::Inventory, Method::PUT, &format!("/stock/{sku}"))?;
    Ok(request.json(&serde_json::json!({"quantity": 1})))
}

async fn measure(world: &World, what: &str, ask: impl Fn() -> Result<RequestBuilder>) -> Result<()> {
    let sku = world.stocked(100_000).await?;
    let quiet = orders(world, &sku, ORDERS / 10).await?;
    let (answered, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut crowd = JoinSet::new();
    for _ in 0..CLIENTS {
        let (request, answered, refused) = (ask()?, answered.clone(), refused.clone());
        crowd.spawn(async move {
            while let Some(request) = request.try_clone() {
                match request.send().await.map(|answer| answer.status().as_u16()) {
                    Ok(503) => refused.fetch_add(1, Ordering::Relaxed),
                    Ok(_) => answered.fetch_add(1, Ordering::Relaxed),
                    Err(_) => 0,
                };
            }
        });
    }
    let began = Instant::now();
    let took = orders(world, &sku, ORDERS).await?;
    let seconds = began.elapsed().as_secs_f64();
    crowd.shutdown().await;
    let p99 = percentile(&took, 99)?;
    eprintln!(
        "{what}: {:.0}/s answered, {:.0}/s refused; orders through Kafka: p50 {:?}, p99 {p99:?}; without the crowd p50 {:?}",
        answered.load(Ordering::Relaxed) as f64 / seconds,
        refused.load(Ordering::Relaxed) as f64 / seconds,
        percentile(&took, 50)?,
        percentile(&quiet, 50)?,
    );
    ensure!(p99 < P99, "p99 {p99:?}");
    Ok(())
}

/// Places orders through Kafka, one every [`PACE`], and measures how long each took until its confirmation was
/// committed: by the services' own timestamps, since this process is busy.
async fn orders(world: &World, sku: &str, number: u32) -> Result<Vec<Duration>> {
    let start = tokio::time::Instant::now();
    let place = async |number: u32| {
        tokio::time::sleep_until(start + PACE * number).await;
        let order = Order::of(sku, 1);
        let id = Uuid::new_v4();
        let began = Timestamp::now();
        world.produce(event("order.created", id, &order.created(id))).await?;
        let confirmed = world.event(id, "order.confirmed").await?;
        let at: Timestamp = confirmed.header("ce_time").context("ce_time")?.parse()?;
        Ok::<_, anyhow::Error>(Duration::try_from(at.duration_since(began)).unwrap_or_default())
    };
    try_join_all((0..number).map(place)).await
}

pub(super) fn percentile(durations: &[Duration], percent: usize) -> Result<Duration> {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().context("nothing measured")
}

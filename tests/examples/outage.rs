//! Measures an outage: Kafka is away while customers go on ordering, and comes back.

#![allow(clippy::print_stdout, reason = "its report")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream::FuturesUnordered};
use saga_test_support::end_to_end::{Mode, Who, World, orders::Order};

const USAGE: &str = "\
Usage: outage [SECONDS] [ORDERS_PER_SECOND]

Runs the four services on a PostgreSQL (TEST_DATABASE_URL) and a Kafka of their own. Measures how many orders a second they confirm,
kills Kafka for so long (600 s) while so many orders a second (100) are placed over HTTP, starts it again, and measures how
fast the backlog drains. Fails when an order was not accepted, when order-service used more than 50 MB or 20 % of a core while
it waited, or when the backlog drained at less than half the normal throughput.";

/// Orders that the normal throughput is measured with.
const NORMAL: usize = 3_000;
/// A request that is not answered by then was not accepted.
const PATIENCE: Duration = Duration::from_secs(5);
/// The backlog must have drained by then, and nothing is said about how fast.
const LONGEST: Duration = Duration::from_secs(1_800);
const MOST_BYTES: f64 = 50e6;
const MOST_OF_A_CORE: f64 = 0.2;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| arguments.get(at).map_or(Some(default), |text| text.parse().ok());
    let (Some(seconds), Some(rate), true) = (number(0, 600), number(1, 100), arguments.len() <= 2) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match measure(Duration::from_secs(seconds), rate).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outage: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(outage: Duration, rate: u64) -> Result<()> {
    // No order is called off while it waits.
    let world = World::start_with(Mode::Live, &[("SAGA_DEADLINE", "600m")]).await?;
    let sku = world.stocked(100_000_000).await?;
    // The first orders pay for topics and connections.
    place_at_once(&world, &sku, 200).await?;
    confirmed(&world, 200.0).await?;

    let began = Instant::now();
    place_at_once(&world, &sku, NORMAL).await?;
    confirmed(&world, per(200 + NORMAL)).await?;
    let normal = per(NORMAL) / began.elapsed().as_secs_f64();
    println!("normal: {normal:.0} orders/s, placed and confirmed");

    world.broker().take_away().await?;
    let before = usage(&world).await?;
    let began = Instant::now();
    let (placed, most_bytes) = place_during(&world, &sku, outage, rate).await?;
    let core = (usage(&world).await?.0 - before.0) / began.elapsed().as_secs_f64();
    println!(
        "away for {outage:?}: {placed} orders accepted; order-service took {:.1} MB at most and {:.1} % of a core",
        most_bytes / 1e6,
        core * 100.0
    );

    let began = Instant::now();
    world.broker().bring_back().await?;
    println!("Kafka serves again after {:.1} s", began.elapsed().as_secs_f64());
    let before = done(&world).await?;
    let first = loop {
        ensure!(began.elapsed() < LONGEST, "nothing drains");
        if done(&world).await? > before {
            break began.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    confirmed(&world, per(200 + NORMAL + placed)).await?;
    let drained = per(placed) / (began.elapsed() - first).as_secs_f64();
    println!(
        "the first was confirmed after {:.1} s; then {drained:.0} orders/s, the last after {:.1} s",
        first.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );

    ensure!(most_bytes < MOST_BYTES, "order-service took {most_bytes} bytes");
    ensure!(core < MOST_OF_A_CORE, "order-service took {core} of a core");
    ensure!(drained > normal / 2.0, "the backlog drained at {drained} orders/s, and {normal} are normal");
    Ok(())
}

/// Places so many, as fast as a few customers can.
async fn place_at_once(world: &World, sku: &str, orders: usize) -> Result<()> {
    let orders = futures::stream::iter(0..orders).map(|_| place(world, sku)).buffer_unordered(16);
    orders.fold(Ok(()), async |all, one| all.and(one)).await
}

/// Places `rate` a second whatever the answers take; returns how many, and the most memory that was seen.
async fn place_during(world: &World, sku: &str, length: Duration, rate: u64) -> Result<(usize, f64)> {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate)?);
    let mut looks = tokio::time::interval(Duration::from_secs(5));
    let mut under_way = FuturesUnordered::new();
    let (mut placed, mut most_bytes) = (0, 0.0_f64);
    while began.elapsed() < length {
        tokio::select! {
            _ = ticks.tick() => {
                placed += 1;
                under_way.push(place(world, sku));
            }
            Some(answer) = under_way.next() => { answer?; }
            _ = looks.tick() => most_bytes = most_bytes.max(usage(world).await?.1),
        }
    }
    while let Some(answer) = under_way.next().await {
        answer?;
    }
    Ok((placed, most_bytes))
}

async fn place(world: &World, sku: &str) -> Result<()> {
    let placed = tokio::time::timeout(PATIENCE, world.place(&Order::of(sku, 1))).await;
    placed.with_context(|| format!("no answer within {PATIENCE:?}"))?.map(|_| ())
}

/// Waits until so many orders have been confirmed since the world began.
async fn confirmed(world: &World, orders: f64) -> Result<()> {
    let began = Instant::now();
    while done(world).await? < orders {
        ensure!(began.elapsed() < LONGEST, "{} of {orders} orders were confirmed", done(world).await?);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn done(world: &World) -> Result<f64> {
    world.metric(Who::Order, "saga_finished_total", "outcome=\"completed\"").await
}

/// Seconds of processor time that order-service has used, and its memory in bytes.
async fn usage(world: &World) -> Result<(f64, f64)> {
    let seconds = world.metric(Who::Order, "process_cpu_seconds_total", "").await?;
    Ok((seconds, world.metric(Who::Order, "process_resident_memory_bytes", "").await?))
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52 orders")]
fn per(orders: usize) -> f64 {
    orders as f64
}

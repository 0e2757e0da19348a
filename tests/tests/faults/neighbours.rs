//! One locked row, one stopped process, one event that is repeated many times, some permanent failures: how they affect
//! all other orders. Measurements, ignored by default:
//! `cargo test --release -p saga-tests --test faults neighbours -- --ignored --nocapture --test-threads 1`

use std::{
    collections::HashMap,
    time::{Duration, Instant, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use saga_tests::{
    Mode, Who, World, eventually,
    orders::{Order, event, with_header},
    own_world,
};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use super::crowd::percentile;

/// Longer than any fault below.
const PATIENCE: Duration = Duration::from_secs(120);

/// The measured time: from the publication of an order, which its id contains, until the order service has committed
/// its end.
struct Bench<'a> {
    world: &'a World,
    sku: String,
    database: Client,
}

impl<'a> Bench<'a> {
    async fn new(world: &'a World) -> Result<Self> {
        let sku = world.stocked(10_000_000).await?;
        let url = world.variables(Who::Order, &[]).into_iter().find(|(name, _)| name == "DATABASE_URL");
        let (database, connection) = tokio_postgres::connect(&url.context("DATABASE_URL")?.1, NoTls).await?;
        tokio::spawn(connection);
        Ok(Self { world, sku, database })
    }

    /// Publishes orders, one every `pace`.
    async fn publish(&self, sku: &str, number: u32, pace: Duration) -> Result<Vec<Uuid>> {
        let start = tokio::time::Instant::now();
        let mut ids = Vec::new();
        for i in 0..number {
            tokio::time::sleep_until(start + pace * i).await;
            let (order, id) = (Order::of(sku, 1), Uuid::now_v7());
            self.world.publish(vec![event("order.created", id, &order.created(id))]).await?;
            ids.push(id);
        }
        Ok(ids)
    }

    /// The time that each of these took, once all have ended.
    async fn took(&self, ids: &[Uuid]) -> Result<Vec<Duration>> {
        let sql = r#"SELECT saga_id, extract(epoch FROM ended_at)::float8 FROM "order".saga_progress WHERE ended_at IS NOT NULL"#;
        eventually(PATIENCE, "all have ended", async || {
            let rows = self.database.query(sql, &[]).await?;
            let ended: HashMap<Uuid, f64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            let took = |id: &Uuid| {
                let (seconds, nanos) = id.get_timestamp()?.to_unix();
                let published = UNIX_EPOCH + Duration::new(seconds, nanos);
                (UNIX_EPOCH + Duration::from_secs_f64(*ended.get(id)?)).duration_since(published).ok()
            };
            ids.iter()
                .map(took)
                .collect::<Option<Vec<_>>>()
                .with_context(|| format!("{} of {}", ended.len(), ids.len()))
        })
        .await
    }
}

fn percentiles(took: &[Duration]) -> Result<String> {
    let [p50, p99, worst] = [50, 99, 100].map(|percent| percentile(took, percent));
    Ok(format!("p50 {:?}, p99 {:?}, worst {:?}", p50?, p99?, worst?))
}

#[test]
#[ignore = "a measurement"]
fn a_locked_stock_row_delays_only_its_own_orders() {
    own_world(Mode::Live, async |world| {
        let bench = Bench::new(world).await?;
        let locked = world.stocked(1000).await?;
        let sql = format!("BEGIN; UPDATE inventory.stock SET available = available WHERE sku = '{locked}'");
        let url = world.variables(Who::Inventory, &[]).into_iter().find(|(name, _)| name == "DATABASE_URL");
        let (holder, connection) = tokio_postgres::connect(&url.context("DATABASE_URL")?.1, NoTls).await?;
        tokio::spawn(connection);
        holder.batch_execute(&sql).await?;
        let (locked_out, free) = tokio::try_join!(
            bench.publish(&locked, 30, Duration::from_secs(1)),
            bench.publish(&bench.sku, 1500, Duration::from_millis(20)),
        )?;
        let took = bench.took(&free).await?;
        ensure!(locked_out.iter().all(|id| world.count(*id, "inventory.reserved") == 0), "the row was not locked");
        holder.batch_execute("ROLLBACK").await?;
        let released = Instant::now();
        bench.took(&locked_out).await?;
        eprintln!("other orders while a row is locked for 30 s: {}", percentiles(&took)?);
        eprintln!("those of the row end {:?} after it is free", released.elapsed());
        ensure!(locked_out.iter().all(|id| world.count(*id, "order.confirmed") == 1), "all of them are confirmed");
        ensure!(locked_out.iter().all(|id| world.letters_of(*id).is_empty()), "none is dead-lettered");
        ensure!(percentile(&took, 100)? < Duration::from_secs(3));
        Ok(())
    });
}

#[test]
#[ignore = "a measurement"]
fn a_stopped_process_delays_other_orders_only_briefly() {
    own_world(Mode::Live, async |world| {
        let bench = Bench::new(world).await?;
        world.launch(Who::Inventory, 1, &[]).await?;
        eventually(PATIENCE, "both have partitions", async || {
            ensure!(world.partitions(Who::Inventory, 0).await? > 0 && world.partitions(Who::Inventory, 1).await? > 0);
            Ok(())
        })
        .await?;
        let stops = async {
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_secs(5)).await;
                world.signal(Who::Inventory, "STOP")?;
                tokio::time::sleep(Duration::from_secs(45)).await;
                world.signal(Who::Inventory, "CONT")?;
            }
            Ok(())
        };
        let orders = bench.publish(&bench.sku, 20_000, Duration::from_millis(5));
        let (ids, ()) = tokio::try_join!(orders, stops)?;
        let took = bench.took(&ids).await?;
        eprintln!("one of two inventory processes stopped for 45 s, twice, 200 orders/s: {}", percentiles(&took)?);
        ensure!(world.units(&bench.sku).await?.1 == 20_000, "each order has its stock once");
        ensure!(percentile(&took, 100)? < Duration::from_secs(20));
        Ok(())
    });
}

#[test]
#[ignore = "a measurement"]
fn two_hundred_thousand_copies_of_one_event_delay_no_other_order() {
    own_world(Mode::Live, async |world| {
        let bench = Bench::new(world).await?;
        for named in [true, false] {
            copies_hold_nobody(&bench, named).await?;
        }
        Ok(())
    });
}

/// With an id, or without one: then the copies are the same bytes at different offsets.
async fn copies_hold_nobody(bench: &Bench<'_>, named: bool) -> Result<()> {
    let world = bench.world;
    let (hot, id) = (Order::of(&bench.sku, 1), Uuid::now_v7());
    let copy = event("order.created", id, &hot.created(id));
    let copy = if named { with_header(copy, "ce_id", Uuid::new_v4()) } else { copy };
    let copies = async {
        let began = Instant::now();
        for _ in 0..400 {
            world.publish(vec![copy.clone(); 500]).await?;
        }
        Ok(began.elapsed())
    };
    let orders = bench.publish(&bench.sku, 1500, Duration::from_millis(20));
    let (ids, published) = tokio::try_join!(orders, copies)?;
    let partitions = world.partitions_by_saga("order.created");
    let hot = partitions.get(&id).copied();
    let (sharing, others): (Vec<Uuid>, Vec<Uuid>) = ids.iter().partition(|id| partitions.get(id).copied() == hot);
    let elsewhere = bench.took(&others).await?;
    let kind = if named { "with an id" } else { "without an id" };
    eprintln!(
        "200,000 copies of one event {kind}, published in {published:?}; 50 other orders/s: {}",
        percentiles(&elsewhere)?
    );
    let beside = bench.took(&sharing).await?;
    eprintln!("those behind the copies, in their partition: {}", percentiles(&beside)?);
    ensure!(world.count(id, "inventory.reserved") == 1);
    ensure!(percentile(&elsewhere, 99)? < Duration::from_secs(2));
    Ok(())
}

/// The two loads alternate, so that other load on the machine affects both.
#[test]
#[ignore = "a measurement"]
fn one_permanent_failure_in_a_hundred_events_costs_little_throughput() {
    own_world(Mode::Live, async |world| {
        let bench = Bench::new(world).await?;
        let round = async |failing: bool| {
            let (began, mut good, mut records) = (Instant::now(), Vec::new(), Vec::new());
            for i in 0..5000 {
                let id = Uuid::now_v7();
                let mut data = Order::of(&bench.sku, 1).created(id);
                if failing && i % 100 == 0 {
                    // Its total is not the sum of its items.
                    data["total_cents"] = 1.into();
                } else {
                    good.push(id);
                }
                records.push(event("order.created", id, &data));
            }
            for records in records.chunks(500) {
                world.publish(records.to_vec()).await?;
            }
            bench.took(&good).await?;
            Ok::<_, anyhow::Error>(5000.0 / began.elapsed().as_secs_f64())
        };
        round(false).await?;
        let mut ratios = Vec::new();
        for _ in 0..5 {
            ratios.push(round(true).await? / round(false).await?);
        }
        ratios.sort_by(f64::total_cmp);
        eprintln!("throughput with 1 % of events that fail for good, as a share of that without: {ratios:.2?}");
        ensure!(ratios[2] > 0.9, "{ratios:?}");
        Ok(())
    });
}

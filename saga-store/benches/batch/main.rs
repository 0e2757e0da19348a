//! How long one batch takes from begin to commit: 100 events and one of each, and 500 parked sagas that fail once more and
//! then are done; on PostgreSQL when `TEST_DATABASE_URL` names one, and on SQLite. On PostgreSQL also how many round trips.

mod distance;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use saga_core::{
    barrier::{Cause, Op},
    event::SagaId,
    record::{Header, OutRecord, Record},
    store::{Admission, Changes, OutboxRow, ParkChange, ParkedAt, Parking, Phase, Store},
};
use saga_store::{Db, Migration, Rows, params};
use uuid::Uuid;

use distance::{RoundTrips, distant};

const ROUNDS: usize = 300;

const MIGRATIONS: &[Migration] = &[Migration {
    name: "reservation",
    sql: "CREATE TABLE reservation (order_id text PRIMARY KEY, quantity bigint NOT NULL)",
}];
const RESERVE_ONE: &str = "INSERT INTO reservation (order_id, quantity) VALUES ($1, $2)";
const TAKE: &str =
    "UPDATE reservation SET quantity = quantity - r.n FROM :rows(id text, n bigint) r WHERE order_id = r.id";
const TAKE_ONE: &str = "UPDATE reservation SET quantity = quantity - $2 WHERE order_id = $1";
const RESERVE: &str = "INSERT INTO reservation (order_id, quantity) SELECT r.id, r.n FROM :rows(id text, n bigint) r";

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = std::env::temp_dir().join(format!("saga-store-bench-{}", Uuid::new_v4()));
    let mut urls = vec![("SQLite", format!("sqlite://{}/bench.db", folder.display()))];
    match std::env::var("TEST_DATABASE_URL") {
        Ok(url) => urls.insert(0, ("PostgreSQL", url)),
        Err(_) => println!("PostgreSQL: TEST_DATABASE_URL names none"),
    }
    if let Some((_, url)) = urls.iter().find(|(name, _)| *name == "PostgreSQL") {
        round_trips(url).await;
    }
    for (name, url) in urls {
        let url = url.parse().expect("a database URL");
        let db = Db::connect(url, "bench_store", MIGRATIONS).await.expect("a database");
        for (kind, op, phase) in [
            ("actions", Op::Action, Phase::Whole),
            ("compensations", Op::Compensate, Phase::Whole),
            ("starts of effects", Op::Action, Phase::Start),
        ] {
            for size in [1, 100] {
                println!("{name}, {size} {kind}: {}", figures(batches(&db, ROUNDS, size, op, phase).await));
            }
        }
        for size in [1, 100, 500] {
            written(name, &db, size).await;
        }
        parked(name, &db).await;
        let (mut times, mut sent) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let row = outbox_row(SagaId::random());
            sent.push(row.id);
            let rows = std::slice::from_ref(&row);
            let done = db.transaction(async |tx| {
                tx.execute("DELETE FROM reservation WHERE order_id = $1", params!["none"]).await?;
                Ok::<_, saga_core::store::StoreError>((tx, (), rows.to_vec()))
            });
            done.await.expect("a transaction");
            times.push(begun.elapsed());
        }
        db.mark_sent(&sent).await.expect("marked");
        println!("{name}, a transaction of one statement and one event: {}", figures(times));
        drop_schema(&db).await;
    }
    let _ = std::fs::remove_dir_all(folder);
}

async fn drop_schema(db: &Db) {
    let tx = db.begin_plain().await.expect("begun");
    if tx.postgres().is_some() {
        tx.execute("DROP SCHEMA bench_store CASCADE", []).await.expect("dropped");
    }
    db.commit(tx, Changes::default()).await.expect("committed");
}

/// How many round trips a batch takes, counted on a slow line.
#[expect(clippy::print_stdout, reason = "a benchmark prints")]
async fn round_trips(url: &str) {
    let trips = RoundTrips::default();
    let Some(url) = distant(url, &trips).await else { return };
    let db = Db::connect(url.parse().expect("a database URL"), "bench_store", MIGRATIONS).await.expect("a database");
    for (kind, op, phase) in [("actions", Op::Action, Phase::Whole), ("compensations", Op::Compensate, Phase::Whole)] {
        for size in [1, 100] {
            // The first ones prepare the statements.
            batches(&db, 2, size, op, phase).await;
            let before = trips.count();
            batches(&db, 50, size, op, phase).await;
            // The last one's outbox rows are deleted at the end.
            let count = trips.count() - before - 1;
            println!("PostgreSQL, {size} {kind}: {:.2} round trips", count as f64 / 50.0);
        }
    }
    drop_schema(&db).await;
}

/// What the runtime does with a batch: admit, the handlers' statement, outbox, forget what was sent before, commit.
async fn batches(db: &Db, rounds: usize, size: usize, op: Op, phase: Phase) -> Vec<Duration> {
    let mut sent = Vec::new();
    let mut times = Vec::new();
    for _ in 0..rounds {
        let sagas: Vec<SagaId> = (0..size).map(|_| SagaId::random()).collect();
        let admissions: Vec<Admission> = sagas
            .iter()
            .map(|saga_id| Admission {
                cause: Cause { id: Uuid::new_v4(), event_type: "order.created".to_owned() },
                effect_key: None,
                saga_id: *saga_id,
                step: "reserve",
                op,
                phase,
                joins: false,
                rounds: false,
                from_parked: false,
            })
            .collect();
        let outbox: Vec<OutboxRow> = sagas.iter().map(|saga_id| outbox_row(*saga_id)).collect();
        let ids = outbox.iter().map(|row| row.id).collect();
        let rows: Rows = sagas.iter().map(|saga_id| params![*saga_id, 2]).collect();

        let begun = Instant::now();
        let (tx, _) = db.begin(&admissions, std::time::Duration::from_secs(5)).await.expect("begun");
        tx.execute_rows(RESERVE, &rows, []).await.expect("executed");
        db.commit(tx, Changes { outbox, sent, ..Changes::default() }).await.expect("committed");
        times.push(begun.elapsed());
        sent = ids;
    }
    db.mark_sent(&sent).await.expect("marked");
    times
}

/// What handlers write, as a set that is waited for and event by event with the commit.
#[expect(clippy::print_stdout, reason = "a benchmark prints")]
async fn written(name: &str, db: &Db, size: usize) {
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..ROUNDS / 3 {
        let ids = || (0..size).map(|_| Uuid::new_v4()).collect::<Vec<_>>();
        let (set, single) = (ids(), ids());
        let rows: Rows = set.iter().map(|id| params![*id, 2]).collect();
        for (at, (of_set, of_one)) in [(RESERVE, RESERVE_ONE), (TAKE, TAKE_ONE)].into_iter().enumerate() {
            let begun = Instant::now();
            let tx = db.begin_plain().await.expect("begun");
            tx.execute_rows(of_set, &rows, []).await.expect("executed");
            db.commit(tx, Changes::default()).await.expect("committed");
            times[2 * at].push(begun.elapsed());
            let begun = Instant::now();
            let tx = db.begin_plain().await.expect("begun");
            single.iter().for_each(|id| tx.write(of_one, params![*id, 2]).expect("kept"));
            db.commit(tx, Changes::default()).await.expect("committed");
            times[2 * at + 1].push(begun.elapsed());
        }
    }
    let kinds = ["inserted as a set", "inserted one by one", "updated as a set", "updated one by one"];
    for (kind, times) in kinds.into_iter().zip(times) {
        println!("{name}, {size} rows {kind}: {}", figures(times));
    }
}

/// The transactions of a storm of retries.
#[expect(clippy::print_stdout, reason = "a benchmark prints")]
async fn parked(name: &str, db: &Db) {
    let kinds = ["parked", "retried", "given up on", "removed"];
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..ROUNDS / 20 {
        let appended: Vec<ParkChange> = (0..500).map(|_| ParkChange::Append(parking(SagaId::random()))).collect();
        let mut changes = vec![appended];
        for (kind, times) in times.iter_mut().enumerate() {
            let park = changes.pop().expect("changes");
            let begun = Instant::now();
            let tx = db.begin_plain().await.expect("begun");
            db.commit(tx, Changes { park, ..Changes::default() }).await.expect("committed");
            times.push(begun.elapsed());
            if kind == 0 {
                let claimed = db.claim_parked(Duration::from_secs(60), 500, &[]).await.expect("claimed");
                let places = claimed.iter().map(|event| ParkedAt {
                    saga_id: event.saga_id,
                    seq: event.seq,
                    op: Op::Action,
                    round: None,
                });
                let places: Vec<ParkedAt> = places.collect();
                let (pause, failed_at) = (Duration::from_secs(60), Timestamp::now());
                changes.push(places.iter().map(|&at| ParkChange::Remove { at }).collect());
                let reason = || "gateway: timed out".to_owned();
                changes.push(places.iter().map(|&at| ParkChange::Block { at, reason: reason() }).collect());
                let retry = |at| ParkChange::Retry { at, attempts: 2, pause, failed_at, reason: reason() };
                changes.push(places.iter().copied().map(retry).collect());
            }
        }
    }
    for (kind, times) in kinds.iter().zip(times) {
        println!("{name}, 500 {kind}: {}", figures(times));
    }
}

fn parking(saga_id: SagaId) -> Parking {
    let OutRecord { topic, key, value, headers } = outbox_row(saga_id).record;
    Parking {
        saga_id,
        cause: Uuid::new_v4(),
        event_id: saga_id.to_string(),
        step: "reserve",
        op: Op::Action,
        record: Record { topic: topic.to_string().into(), partition: 0, offset: 0, key, value, headers },
        attempts: 1,
        pause: Duration::ZERO,
        failed_at: Some(Timestamp::now()),
        reason: "gateway: timed out".into(),
        blocked: false,
        aside: false,
        round: 0,
    }
}

fn outbox_row(saga_id: SagaId) -> OutboxRow {
    let names = ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "ce_correlationid"];
    let mut headers: Vec<Header> = names.iter().map(|name| Header::text(*name, saga_id.to_string())).collect();
    headers.push(Header::text("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    OutboxRow {
        id: Uuid::new_v4(),
        saga_id,
        event_type: "inventory.reserved".into(),
        created_at: Timestamp::now(),
        record: OutRecord {
            topic: "inventory.events".into(),
            key: Some(saga_id.to_string().into_bytes()),
            value: Some(vec![b'x'; 300]),
            headers,
        },
        span: None,
        link: None,
    }
}

fn figures(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1000.0;
    format!("p10 {:.2} ms, median {:.2} ms, p99 {:.2} ms", at(10), at(50), at(99))
}

//! A database of its own for each test, and short ways to say what happens in it.

use std::{path::PathBuf, str::FromStr, time::Duration};

use jiff::Timestamp;
use saga_core::{
    barrier::{self, Before, Cause, Mark, Op, Verdict},
    event::SagaId,
    graph::Triggers,
    identity::cause,
    record::{Header, OutRecord, Record},
    store::{Admission, Changes, MarkChange, OutboxRow, ParkChange, Parking, Phase, Store},
    trace::Ids,
};
use saga_store::{DatabaseUrl, Db, Migration, Tx};
use uuid::Uuid;

pub(crate) const STEP: &str = "reserve";

/// How long a transaction of these tests waits for a lock.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "stock",
        sql: "CREATE TABLE stock (sku text PRIMARY KEY, available bigint NOT NULL CHECK (available >= 0));
              INSERT INTO stock VALUES ('SKU-1', 100);",
    },
    Migration {
        name: "note",
        sql: "CREATE TABLE note (id text PRIMARY KEY, body text, number bigint, flag boolean, raw bytea)",
    },
];

/// Runs each test on both databases.
macro_rules! on_both {
    ($(async fn $name:ident($fixture:ident: &Fixture) $body:block)+) => {
        $(async fn $name($fixture: &$crate::support::Fixture) $body)+

        mod on_sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&$crate::support::Fixture::sqlite().await).await;
            })+
        }

        mod in_memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&$crate::support::Fixture::in_memory().await).await;
            })+
        }

        mod on_postgresql {
            $(#[tokio::test]
            async fn $name() {
                if let Some(fixture) = $crate::support::Fixture::postgres().await {
                    super::$name(&fixture).await;
                }
            })+
        }
    };
}

/// A prepared database that is removed at the end of the test.
pub(crate) struct Fixture {
    pub(crate) db: Db,
    pub(crate) url: DatabaseUrl,
    pub(crate) schema: String,
    /// SQLite's folder.
    folder: Option<PathBuf>,
    in_memory: bool,
}

impl Fixture {
    pub(crate) async fn sqlite() -> Self {
        let folder = std::env::temp_dir().join(format!("saga-store-{}", Uuid::new_v4()));
        let url = format!("sqlite://{}/made/on/demand.db", folder.display());
        Self::new(&url, Some(folder), false).await
    }

    pub(crate) async fn in_memory() -> Self {
        Self::new("sqlite::memory:", None, true).await
    }

    /// None when there is no PostgreSQL to test on.
    pub(crate) async fn postgres() -> Option<Self> {
        Some(Self::new(&postgres_url()?, None, false).await)
    }

    async fn new(url: &str, folder: Option<PathBuf>, in_memory: bool) -> Self {
        let url = DatabaseUrl::from_str(url).unwrap();
        let schema = format!("test_{}", Uuid::new_v4().simple());
        let db = Db::connect(url.clone(), &schema, MIGRATIONS).await.unwrap();
        Self { db, url, schema, folder, in_memory }
    }

    /// The same database as another process sees it.
    pub(crate) async fn another(&self) -> Db {
        if self.in_memory {
            return self.db.clone();
        }
        Db::connect(self.url.clone(), &self.schema, MIGRATIONS).await.unwrap()
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        self.db.query_opt(sql, []).await.unwrap().unwrap().get(0).unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        } else if let (false, Some(url)) = (self.in_memory, postgres_url()) {
            // Transactions that the test left open would be waited for.
            let sql = format!(
                "SET client_min_messages = warning;
                 SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{0}';
                 DROP SCHEMA IF EXISTS {0} CASCADE",
                self.schema
            );
            // A runtime of its own, since the test's cannot be waited for in here.
            let dropped = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async { raw(&url).await.batch_execute(&sql).await.unwrap() });
            });
            let _ = dropped.join();
        }
    }
}

pub(crate) fn postgres_url() -> Option<String> {
    saga_test_support::servers::postgres()
}

/// A connection of the test's own.
pub(crate) async fn raw(url: &str) -> saga_store::tokio_postgres::Client {
    let (client, connection) =
        saga_store::tokio_postgres::connect(url, saga_store::tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Seconds after the tests' beginning of time.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

pub(crate) fn admission(saga_id: SagaId, op: Op, phase: Phase) -> Admission {
    let cause = Cause { id: Uuid::new_v4(), event_type: "order.created".to_owned() };
    Admission {
        cause,
        saga_id,
        step: STEP,
        op,
        phase,
        effect_key: None,
        joins: false,
        rounds: false,
        from_parked: false,
    }
}

/// Admits one event.
pub(crate) async fn begin(db: &Db, admission: &Admission) -> (Tx, Before) {
    let (tx, before) = db.begin(std::slice::from_ref(admission), PATIENCE).await.unwrap();
    (tx, before[0].clone())
}

/// Admits one event, commits, and tells the verdict.
pub(crate) async fn admit(db: &Db, admission: &Admission) -> Verdict {
    let (tx, before) = begin(db, admission).await;
    db.commit(tx, Changes::default()).await.unwrap();
    decide(admission.op, &admission.cause, &before)
}

/// The verdict on an event of a step that is no join.
pub(crate) fn decide(op: Op, cause: &Cause, before: &Before) -> Verdict {
    barrier::decide(op, cause, before, &Triggers::default())
}

/// What the action's row and the compensation's row said.
pub(crate) fn marks(before: &Before) -> (Option<Mark>, Option<Mark>) {
    (before.action.as_ref().map(|row| row.mark), before.compensation.as_ref().map(|row| row.mark))
}

/// Admits an event of its own for this saga, commits, and tells the verdict.
pub(crate) async fn run(db: &Db, saga_id: SagaId, op: Op, phase: Phase) -> Verdict {
    admit(db, &admission(saga_id, op, phase)).await
}

pub(crate) fn marked(saga_id: SagaId, op: Op, mark: Mark) -> Changes {
    Changes {
        marks: vec![MarkChange { saga_id, step: STEP, op, mark, effect_key: None, round: None }],
        ..Changes::default()
    }
}

/// Everything in the outbox, with the time at which it was written as the tests have it.
pub(crate) async fn unsent(db: &Db) -> Vec<OutboxRow> {
    let places = db.unsent(0, Duration::ZERO, 1000).await.unwrap();
    let ids: Vec<Uuid> = places.iter().map(|place| place.id).collect();
    let rows = db.outbox(&ids).await.unwrap();
    rows.into_iter().map(|row| OutboxRow { created_at: at(0), ..row }).collect()
}

/// How long until the next parked head or timer is due, in whole hours: none when nothing is due ever.
pub(crate) async fn hours_left(db: &Db) -> Option<i64> {
    const POSTGRES: &str = "SELECT CAST(round(extract(epoch FROM min(due) - now()) / 3600) AS bigint) FROM \
        (SELECT due FROM saga_parked WHERE due IS NOT NULL UNION ALL SELECT due FROM saga_timer) d";
    const SQLITE: &str = "SELECT CAST(round((min(due) / 1000000.0 - unixepoch('subsec')) / 3600) AS bigint) FROM \
        (SELECT due FROM saga_parked WHERE due IS NOT NULL UNION ALL SELECT due FROM saga_timer) d";
    let tx = db.begin_plain().await.unwrap();
    let sql = if tx.postgres().is_some() { POSTGRES } else { SQLITE };
    let left: Option<i64> = tx.query_opt(sql, []).await.unwrap().unwrap().get(0).unwrap();
    // What is due since 1970 is due now.
    left.map(|hours| hours.max(0))
}

pub(crate) async fn commit(db: &Db, changes: Changes) {
    let tx = db.begin_plain().await.unwrap();
    db.commit(tx, changes).await.unwrap();
}

/// A record with all that is odd about records.
pub(crate) fn record(saga_id: SagaId, offset: i64) -> Record {
    Record {
        topic: "order.events".into(),
        partition: 3,
        offset,
        key: Some(saga_id.to_string().into_bytes()),
        value: Some(vec![0, 255, b'{', b'\'']),
        headers: vec![
            Header::text("ce_type", "order.created"),
            Header { name: "nul".as_bytes().into(), value: Some(vec![0, 1, 2]) },
            Header { name: vec![0xff].into(), value: None },
        ],
    }
}

pub(crate) fn parking(saga_id: SagaId, event_id: &str, offset: i64) -> Parking {
    Parking {
        saga_id,
        cause: cause("/shop", event_id),
        event_id: event_id.into(),
        step: STEP,
        op: Op::Action,
        record: record(saga_id, offset),
        attempts: 1,
        pause: Duration::ZERO,
        failed_at: Some(at(0)),
        reason: "gateway: timed out \0".into(),
        blocked: false,
        aside: false,
        round: 0,
    }
}

/// An event that is due at once when it is the head.
pub(crate) fn append(saga_id: SagaId, event_id: &str, offset: i64) -> ParkChange {
    ParkChange::Append(parking(saga_id, event_id, offset))
}

pub(crate) fn outbox_row(saga_id: SagaId) -> OutboxRow {
    OutboxRow {
        id: Uuid::now_v7(),
        saga_id,
        event_type: "inventory.reserved".into(),
        created_at: at(0),
        record: OutRecord {
            topic: "inventory.events".into(),
            key: Some(saga_id.to_string().into_bytes()),
            value: Some(br#"{"it's":"\u0000"}"#.to_vec()),
            headers: vec![
                Header::text("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                Header { name: "odd".as_bytes().into(), value: Some(vec![0, 0xff]) },
            ],
        },
        span: Some(Ids {
            trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes(),
            span_id: 0xb7ad_6b71_6920_3331_u64.to_be_bytes(),
            parent_id: Some([7; 8]),
        }),
        link: None,
    }
}

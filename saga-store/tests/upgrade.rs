//! A database of an earlier version, with effects that were started, events that were parked and rows in the outbox, under
//! the runtime of this one.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use saga_core::{
    Event, Never, Outcome, Participant, RetryPolicy, SagaId, Step, StepError, StepResult,
    clock::SystemClock,
    envelope::{Outgoing, seal},
    event::EventType,
    handler::{Call, Cx},
    record::{OutRecord, headers_to_json},
    runtime::{Handle, Options, Runtime},
    store::{OutboxRow, Store, StoreError},
    testing::MemoryBroker,
    trace::TraceContext,
};
use saga_store::{DatabaseUrl, Db, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "order.placed", topic = "order.events", saga = "id")]
struct Placed {
    id: Uuid,
}
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "order.revoked", topic = "order.events", saga = "id")]
struct Revoked {
    id: Uuid,
}
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "bank.charged", topic = "bank.events", saga = "id")]
struct Charged {
    id: Uuid,
}
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "bank.refunded", topic = "bank.events", saga = "id")]
struct Refunded {
    id: Uuid,
}
impl From<Revoked> for Refunded {
    fn from(why: Revoked) -> Self {
        Self { id: why.id }
    }
}

/// What the bank was asked: for which saga, under which keys.
type Calls = Arc<Mutex<Vec<(&'static str, SagaId, Uuid, Uuid)>>>;

async fn charge(_: &mut Cx<'_, Db>, order: Placed, _: ()) -> StepResult<Charged, Never> {
    Ok(Outcome::Success(Charged { id: order.id }))
}

async fn refund(_: &mut Cx<'_, Db>, why: Revoked) -> Result<Refunded, StepError> {
    Ok(why.into())
}

fn bank(calls: &Calls) -> Participant<Db> {
    let (charged, refunded) = (calls.clone(), calls.clone());
    let step = Step::with_effect(
        "charge",
        async move |call: &Call, _: &Placed| {
            charged.lock().unwrap().push(("charge", call.saga_id, call.idempotency_key, call.action_key));
            Ok(())
        },
        charge,
    )
    .undone_with_effect(
        async move |call: &Call, _: &Revoked| {
            refunded.lock().unwrap().push(("refund", call.saga_id, call.idempotency_key, call.action_key));
            Ok(())
        },
        refund,
    )
    .retry(RetryPolicy::NONE);
    Participant::named("bank").step(step)
}

fn sealed<E: Event>(event: &E) -> OutRecord {
    let outgoing = Outgoing {
        id: Uuid::now_v7(),
        source: "shop",
        saga_id: Event::saga_id(event),
        causation_id: None,
        time: jiff::Timestamp::now(),
        trace: &TraceContext::default(),
        null_compensation: false,
    };
    seal(EventType::of::<E>(), serde_json::to_vec(event).unwrap(), &outgoing)
}

/// The key that the earlier version called the bank with.
fn old_key(saga: SagaId, half: &str) -> Uuid {
    let namespace = Uuid::from_u128(0x8b6c_9f2e_7f04_5d5c_9c57_4a1d_3f0e_6b21);
    Uuid::new_v5(&namespace, format!("effect/{saga}\ncharge\n{half}\n0").as_bytes())
}

const DOWN_POSTGRES: &[&str] = &[
    "CREATE TABLE saga_inbox (event_id text PRIMARY KEY, saga_id uuid NOT NULL, handled_at timestamptz NOT NULL DEFAULT now())",
    "ALTER TABLE saga_barrier DROP COLUMN cause, DROP COLUMN cause_type, DROP COLUMN effect_key, DROP COLUMN created_at, \
     ALTER COLUMN step TYPE text COLLATE \"default\"",
    "ALTER TABLE saga_parked DROP COLUMN cause, DROP COLUMN step, DROP COLUMN op, \
     DROP COLUMN aside, DROP COLUMN round, ADD CONSTRAINT saga_parked_saga_id_event_id_key UNIQUE (saga_id, event_id)",
    "ALTER TABLE saga_barrier DROP COLUMN round",
    "DELETE FROM saga_migration WHERE name IN ('saga/identity', 'saga/rounds')",
];
const DOWN_SQLITE: &[&str] = &[
    "CREATE TABLE saga_inbox (event_id text PRIMARY KEY, saga_id text NOT NULL, handled_at bigint NOT NULL DEFAULT (unixepoch()))",
    "ALTER TABLE saga_barrier DROP COLUMN cause",
    "ALTER TABLE saga_barrier DROP COLUMN cause_type",
    "ALTER TABLE saga_barrier DROP COLUMN effect_key",
    "ALTER TABLE saga_barrier DROP COLUMN created_at",
    "ALTER TABLE saga_barrier DROP COLUMN round",
    "DROP TABLE saga_parked",
    "CREATE TABLE saga_parked (seq integer PRIMARY KEY AUTOINCREMENT, saga_id text NOT NULL, event_id text NOT NULL, \
     topic text NOT NULL, topic_partition integer NOT NULL, topic_offset bigint NOT NULL, key blob, value blob, \
     headers text NOT NULL, attempts bigint NOT NULL, failed_at bigint, due bigint, held boolean NOT NULL, \
     reason text NOT NULL, UNIQUE (saga_id, event_id))",
    "DELETE FROM saga_migration WHERE name IN ('saga/identity', 'saga/rounds')",
];

/// Takes the tables back to what they were.
async fn downgrade(db: &Db, statements: &'static [&'static str]) {
    db.transaction(async |tx| {
        for statement in statements {
            tx.execute(statement, params![]).await?;
        }
        Ok::<_, StoreError>((tx, (), Vec::new()))
    })
    .await
    .unwrap();
}

async fn started(db: &Db, saga: SagaId) {
    db.transaction(async |tx| {
        let sql = "INSERT INTO saga_barrier (saga_id, step, op, mark) VALUES ($1, 'charge', 'action', 'started')";
        tx.execute(sql, params![saga.to_string()]).await?;
        Ok::<_, StoreError>((tx, (), Vec::new()))
    })
    .await
    .unwrap();
}

/// As the earlier version parked it; `held` of the head that was dead-lettered.
async fn parked(db: &Db, saga: SagaId, record: &OutRecord, held: bool) {
    let (topic, headers) = (record.topic.to_string(), headers_to_json(&record.headers));
    db.transaction(async |tx| {
        let sql = "INSERT INTO saga_parked (saga_id, event_id, topic, topic_partition, topic_offset, key, value, headers, \
             attempts, held, reason) VALUES ($1, $2, $3, 0, $4, $5, $6, $7, 1, $8, 'as it was')";
        let (key, value) = (record.key.clone().unwrap(), record.value.clone().unwrap());
        let offset = i64::from(held) + 100;
        let event_id = Uuid::new_v4().to_string();
        let values = params![saga.to_string(), event_id, topic.as_str(), offset, key, value, headers.as_str(), held];
        tx.execute(sql, values).await?;
        Ok::<_, StoreError>((tx, (), Vec::new()))
    })
    .await
    .unwrap();
}

/// Runs the bank until it has published so many events.
async fn run_until(db: &Db, calls: &Calls, broker: &MemoryBroker, events: usize) {
    let local = tokio::task::LocalSet::new();
    let (db, calls, broker) = (db.clone(), calls.clone(), broker.clone());
    local
        .run_until(async move {
            let participant = bank(&calls);
            let handle = Handle::new("bank", db, broker.producer(), SystemClock);
            let consumer = broker.subscribe("bank", &["order.events".to_owned()]);
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let runtime = Runtime::new(participant, handle, Options::default());
            let running = tokio::task::spawn_local(runtime.run(consumer, async {
                let _ = stopped.await;
            }));
            for _ in 0..1000 {
                if broker.records("bank.events").len() >= events {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            drop(stop);
            running.await.unwrap().unwrap();
        })
        .await;
}

async fn upgrade(url: &str, down: &'static [&'static str]) {
    let url: DatabaseUrl = url.parse().unwrap();
    let schema = format!("test_{}", Uuid::new_v4().simple());
    let old = Db::connect(url.clone(), &schema, &[]).await.unwrap();
    downgrade(&old, down).await;
    // Called and not recorded; its event will be delivered again.
    let resumed = SagaId::random();
    started(&old, resumed).await;
    // Called, given up on, and its compensation waits behind it.
    let blocked = SagaId::random();
    started(&old, blocked).await;
    parked(&old, blocked, &sealed(&Placed { id: blocked.as_uuid() }), true).await;
    parked(&old, blocked, &sealed(&Revoked { id: blocked.as_uuid() }), false).await;

    let unsent = SagaId::random();
    let record = sealed(&Charged { id: unsent.as_uuid() });
    let (saga_id, created_at, event_type) = (unsent, jiff::Timestamp::now(), Charged::NAME.to_owned());
    let row = OutboxRow { id: Uuid::now_v7(), saga_id, event_type, created_at, record, span: None, link: None };
    old.transaction(async |tx| Ok::<_, StoreError>((tx, (), vec![row.clone()]))).await.unwrap();

    let db = Db::connect(url, &schema, &[]).await.unwrap();
    let (calls, broker) = (Calls::default(), MemoryBroker::new(1));
    let fresh = SagaId::random();
    broker.append(sealed(&Placed { id: resumed.as_uuid() }));
    broker.append(sealed(&Placed { id: fresh.as_uuid() }));
    run_until(&db, &calls, &broker, 4).await;

    let calls = calls.lock().unwrap().clone();
    let of = |saga| calls.iter().filter(|call| call.1 == saga).copied().collect::<Vec<_>>();
    let (action, undo) = (old_key(resumed, "action"), old_key(blocked, "compensate"));
    assert_eq!(of(resumed), [("charge", resumed, action, action)], "the bank knows that call");
    assert_eq!(of(blocked), [("refund", blocked, undo, old_key(blocked, "action"))]);
    assert_eq!(of(fresh).len(), 1);
    assert_ne!(of(fresh)[0].2, old_key(fresh, "action"));
    let published: Vec<_> = broker.records("bank.events").iter().filter_map(|record| record.saga_id()).collect();
    assert!(published.contains(&unsent) && published.len() == 4, "{published:?}");
    let summary = db.summary().await.unwrap();
    assert_eq!((summary.parked_sagas, summary.blocked_sagas), (0, 0), "nothing is blocked any more");
    db.transaction(async |tx| {
        if tx.postgres().is_some() {
            tx.postgres().unwrap().batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await.unwrap();
        }
        Ok::<_, StoreError>((tx, (), Vec::new()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn effects_of_an_earlier_version_keep_their_keys_and_its_blocked_sagas_go_on_on_sqlite() {
    let folder = std::env::temp_dir().join(format!("saga-upgrade-{}", Uuid::new_v4()));
    upgrade(&format!("sqlite://{}/bank.db", folder.display()), DOWN_SQLITE).await;
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn effects_of_an_earlier_version_keep_their_keys_and_its_blocked_sagas_go_on_on_postgresql() {
    if let Some(url) = saga_test_support::servers::postgres() {
        upgrade(&url, DOWN_POSTGRES).await;
    }
}

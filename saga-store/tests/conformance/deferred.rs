//! What is written without waiting for it, and goes out with the commit.

use std::time::Duration;

use saga_core::{
    Event, Outcome, Participant, Step, StepResult,
    envelope::{Outgoing, seal},
    event::EventType,
    handler::{Cx, Emitted},
    runtime::{Handle, Options, Runtime},
    store::{Changes, Store, StoreError},
    testing::{MemoryBroker, VirtualClock},
    trace::TraceContext,
};
use saga_store::{Db, Write, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const INSERT: &str = "INSERT INTO note (id, body, number, flag, raw) VALUES ($1, $2, $3, $4, $5)";
const KEEP: &str = "INSERT INTO stock (sku, available) VALUES ($1, $2) ON CONFLICT (sku) DO NOTHING";
const SET: &str = "INSERT INTO stock (sku, available) VALUES ($1, $2) \
    ON CONFLICT (sku) DO UPDATE SET available = stock.available + excluded.available";
const DEBIT: &str = "UPDATE stock SET available = available - $1 WHERE sku = $2";
const AVAILABLE: &str = "SELECT available FROM stock WHERE sku = 'SKU-1'";

async fn commit(db: &Db, tx: saga_store::Tx) -> Result<(), StoreError> {
    db.commit(tx, Changes::default()).await.map(|_| ())
}

on_both! {
    async fn every_write_is_applied_once_and_in_its_order(f: &Fixture) {
        let tx = f.db.begin_plain().await.unwrap();
        for _ in 0..2 {
            tx.write(DEBIT, params![10, "SKU-1"]).unwrap();
        }
        tx.write(SET, params!["SKU-2", 5]).unwrap();
        tx.write(DEBIT, params![5, "SKU-2"]).unwrap();
        tx.write(SET, params!["SKU-2", 7]).unwrap();
        commit(&f.db, tx).await.unwrap();
        assert_eq!(f.count(AVAILABLE).await, 80);
        assert_eq!(f.count("SELECT available FROM stock WHERE sku = 'SKU-2'").await, 7);
    }

    async fn rows_of_all_types_are_inserted_together(f: &Fixture) {
        let tx = f.db.begin_plain().await.unwrap();
        for i in 0..50_i64 {
            tx.write(INSERT, params![i.to_string(), "it's", i64::MAX - i, i % 2 == 0, vec![0, 255]]).unwrap();
        }
        tx.write(INSERT, params!["null", None::<String>, None::<i64>, None::<bool>, None::<Vec<u8>>]).unwrap();
        commit(&f.db, tx).await.unwrap();
        assert_eq!(f.count("SELECT count(*) FROM note WHERE body = 'it''s' AND number > 50").await, 50);
        assert_eq!(f.count("SELECT count(*) FROM note WHERE body IS NULL AND raw IS NULL").await, 1);
    }

    async fn a_key_that_is_written_twice_is_treated_as_one_after_the_other(f: &Fixture) {
        let tx = f.db.begin_plain().await.unwrap();
        for n in [1, 2, 3] {
            tx.write(SET, params!["SKU-1", n]).unwrap();
            tx.write(KEEP, params!["SKU-9", n]).unwrap();
        }
        commit(&f.db, tx).await.unwrap();
        assert_eq!(f.count(AVAILABLE).await, 106);
        assert_eq!(f.count("SELECT available FROM stock WHERE sku = 'SKU-9'").await, 1);
    }

    async fn whoever_reads_sees_what_was_written(f: &Fixture) {
        let tx = f.db.begin_plain().await.unwrap();
        tx.write(DEBIT, params![1, "SKU-1"]).unwrap();
        let row = tx.query_opt(AVAILABLE, []).await.unwrap().unwrap();
        assert_eq!(row.get::<i64>(0).unwrap(), 99);
        tx.write(DEBIT, params![1, "SKU-1"]).unwrap();
        assert_eq!(tx.execute("UPDATE stock SET available = available * 2", []).await.unwrap(), 1);
        tx.write(DEBIT, params![1, "SKU-1"]).unwrap();
        tx.flush().await.unwrap();
        commit(&f.db, tx).await.unwrap();
        assert_eq!(f.count(AVAILABLE).await, 195);
    }

    async fn a_write_that_fails_fails_the_commit_and_nothing_is_written(f: &Fixture) {
        type Expected = fn(&StoreError) -> bool;
        let cases: [(&str, Expected); 3] = [
            ("UPDATE stock SET available = -1", |error| matches!(error, StoreError::Rejected(_))),
            ("INSERT INTO nowhere (id) VALUES ('a')", |error| matches!(error, StoreError::Broken(_))),
            ("SELEC 1", |error| matches!(error, StoreError::Broken(_))),
        ];
        for (sql, expected) in cases {
            let tx = f.db.begin_plain().await.unwrap();
            tx.write(DEBIT, params![1, "SKU-1"]).unwrap();
            let error = match tx.write(sql, []) {
                Ok(()) => commit(&f.db, tx).await.unwrap_err(),
                Err(error) => {
                    let at_commit = commit(&f.db, tx).await.unwrap_err();
                    assert!(!matches!(at_commit, StoreError::Unavailable(_)), "{at_commit:?}");
                    error
                }
            };
            assert!(expected(&error), "{sql}: {error:?}");
            assert_eq!(f.count(AVAILABLE).await, 100, "{sql}");
        }
        let tx = f.db.begin_plain().await.unwrap();
        let error = tx.write(INSERT, params!["a\0b", "", 1, true, vec![0]]).unwrap_err();
        assert!(matches!(error, StoreError::Rejected(_)), "{error:?}");
    }

    async fn a_read_that_is_abandoned_loses_no_write_of_others(f: &Fixture) {
        let tx = f.db.begin_plain().await.unwrap();
        tx.write(DEBIT, params![1, "SKU-1"]).unwrap();
        // Dropped at its first wait.
        let abandoned = futures::FutureExt::now_or_never(tx.query(AVAILABLE, [])).is_none();
        match commit(&f.db, tx).await {
            Ok(()) => assert_eq!(f.count(AVAILABLE).await, 99),
            Err(error) => {
                assert!(abandoned && matches!(error, StoreError::Unavailable(_)), "{error:?}");
                assert_eq!(f.count(AVAILABLE).await, 100);
            }
        }
    }

    async fn reads_at_once_see_what_was_written_before_them(f: &Fixture) {
        let tx = f.db.begin_plain().await.unwrap();
        tx.write(DEBIT, params![1, "SKU-1"]).unwrap();
        let (one, two) = futures::join!(tx.query_opt(AVAILABLE, []), tx.query_opt(AVAILABLE, []));
        for row in [one, two] {
            assert_eq!(row.unwrap().unwrap().get::<i64>(0).unwrap(), 99);
        }
        commit(&f.db, tx).await.unwrap();
    }

    async fn what_is_not_committed_is_not_written(f: &Fixture) {
        let tx = f.db.begin_plain().await.unwrap();
        tx.write(DEBIT, params![1, "SKU-1"]).unwrap();
        drop(tx);
        let tx = f.db.begin_plain().await.unwrap();
        tx.query(AVAILABLE, []).await.unwrap();
        commit(&f.db, tx).await.unwrap();
        assert_eq!(f.count(AVAILABLE).await, 100);
    }

    async fn sagas_of_one_batch_that_debit_one_account_are_each_applied_and_one_that_cannot_pay_fails_alone(f: &Fixture) {
        let (broker, clock) = (MemoryBroker::new(1), VirtualClock::start());
        // 100 are there: the one of 1000 breaks the constraint, whoever it shares a transaction with.
        for cents in [10, 10, 1000, 10, 10, 10] {
            broker.append(published(&Requested { id: Uuid::now_v7(), cents }));
        }
        let participant = Participant::named("account").step(Step::new("debit", debit));
        let consumer = broker.subscribe("account", &participant.declaration().consumed_topics());
        let handle = Handle::new("account", f.db.clone(), broker.producer(), clock);
        let metrics = handle.metrics().clone();
        let run = Runtime::new(participant, handle, Options::default()).run(consumer, std::future::pending());
        let test = async {
            while (broker.records("account.events").len(), broker.records("account.dlq").len()) != (5, 1) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(f.count(AVAILABLE).await, 50);
            assert_eq!(f.count("SELECT count(*) FROM note").await, 5);
            let label = saga_core::runtime::StepLabel { step: "debit", op: "action" };
            assert_eq!(metrics.duplicates.get_or_create(&label).get(), 0);
        };
        let test = tokio::time::timeout(Duration::from_secs(30), test);
        tokio::select! {
            result = run => panic!("{result:?}"),
            result = test => result.expect("in time"),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "debit.requested", topic = "request.events", saga = "id")]
struct Requested {
    id: Uuid,
    cents: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "account.debited", topic = "account.events", saga = "id")]
struct Debited {
    id: Uuid,
}

async fn debit(cx: &mut Cx<'_, Db>, request: Requested) -> StepResult<Debited> {
    assert_eq!(cx.saga_id().map(|saga| saga.as_uuid()), Some(request.id));
    cx.write("INSERT INTO note (id) VALUES ($1)", params![request.id])?;
    cx.write(DEBIT, params![request.cents, "SKU-1"])?;
    Ok(Outcome::Success(Debited { id: request.id }))
}

fn published(event: &Requested) -> saga_core::record::OutRecord {
    let outgoing = Outgoing {
        id: Uuid::now_v7(),
        source: "test",
        saga_id: Event::saga_id(event),
        causation_id: None,
        time: jiff::Timestamp::now(),
        trace: &TraceContext::default(),
        null_compensation: false,
    };
    seal(EventType::of::<Requested>(), Emitted::of(event).unwrap().data, &outgoing)
}

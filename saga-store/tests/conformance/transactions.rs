//! Transactions: all or nothing, and nothing left behind.

use std::sync::atomic::{AtomicU32, Ordering};

use saga_core::{
    barrier::{Before, Op},
    event::SagaId,
    store::{Changes, Phase, Store, StoreError},
};
use saga_store::{Db, params};

use crate::support::{PATIENCE, admission, begin, outbox_row, unsent};

const NOTE: &str = "INSERT INTO note (id) VALUES ($1)";
const NOTES: &str = "SELECT count(*) FROM note";

/// As an HTTP handler: the future must be Send.
async fn handler(db: Db, id: String) -> Result<u64, StoreError> {
    let borrowed = id.as_str();
    db.transaction(async |tx| {
        let written = tx.execute(NOTE, params![borrowed]).await?;
        Ok((tx, written, vec![outbox_row(SagaId::random())]))
    })
    .await
}

on_both! {
    async fn a_transaction_writes_its_rows_and_its_events_together(f: &Fixture) {
        assert_eq!(tokio::spawn(handler(f.db.clone(), "a".into())).await.unwrap().unwrap(), 1);
        assert_eq!(f.count(NOTES).await, 1);
        assert_eq!(unsent(&f.db).await.len(), 1);
        handler(f.db.clone(), "a".into()).await.unwrap_err();
        assert_eq!(unsent(&f.db).await.len(), 1);
    }

    async fn a_conflict_is_tried_again(f: &Fixture) {
        let runs = AtomicU32::new(0);
        let done: Result<u32, StoreError> = f.db.transaction(async |tx| {
            tx.execute(NOTE, params!["once"]).await?;
            let run = runs.fetch_add(1, Ordering::Relaxed);
            if run < 2 {
                conflict(&tx).await?;
            }
            Ok((tx, run, Vec::new()))
        }).await;
        if f.url.to_string().starts_with("postgres") {
            assert_eq!(done.unwrap(), 2);
            assert_eq!(f.count(NOTES).await, 1);
        }
    }

    async fn an_error_of_the_work_rolls_back(f: &Fixture) {
        let result: Result<(), StoreError> = f.db.transaction(async |tx| {
            tx.execute(NOTE, params!["a"]).await?;
            Err(StoreError::Rejected("changed my mind".into()))
        }).await;
        assert!(matches!(result, Err(StoreError::Rejected(_))));
        assert_eq!(f.count(NOTES).await, 0);
    }

    async fn after_a_failed_statement_nothing_can_be_done_and_nothing_is_committed(f: &Fixture) {
        let (tx, _) = begin(&f.db, &admission(SagaId::random(), Op::Action, Phase::Whole)).await;
        tx.execute(NOTE, params!["a"]).await.unwrap();
        tx.execute(NOTE, params!["a"]).await.unwrap_err();
        let error = tx.execute(NOTE, params!["b"]).await.unwrap_err();
        assert!(matches!(error, StoreError::Rejected(_)), "{error:?}");
        let error = f.db.commit(tx, Changes::default()).await.unwrap_err();
        assert!(matches!(error, StoreError::Rejected(_)), "{error:?}");
        assert_eq!(f.count(NOTES).await, 0);
        assert_eq!(f.count("SELECT count(*) FROM saga_barrier").await, 0);
    }

    async fn dropped_transactions_leave_nothing_and_the_pool_stays_clean(f: &Fixture) {
        // More often than there are connections, so that a leak would starve the last ones.
        for i in 0..30 {
            let tx = f.db.begin_plain().await.unwrap();
            tx.execute(NOTE, params![i.to_string()]).await.unwrap();
            drop(tx);
            assert_eq!(f.count(NOTES).await, 0, "the connection that is used next is in no transaction");
        }
        let tx = f.db.begin_plain().await.unwrap();
        tx.execute(NOTE, params!["kept"]).await.unwrap();
        f.db.commit(tx, Changes::default()).await.unwrap();
        assert_eq!(f.count(NOTES).await, 1);
    }

    async fn a_begin_that_is_cancelled_leaves_nothing(f: &Fixture) {
        let event = admission(SagaId::random(), Op::Action, Phase::Whole);
        for polls in 0..30 {
            let mut begun = Box::pin(f.db.begin(std::slice::from_ref(&event), PATIENCE));
            for _ in 0..polls {
                if futures::poll!(&mut begun).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(begun);
        }
        let (tx, before) = begin(&f.db, &event).await;
        assert_eq!(before, Before::default());
        f.db.commit(tx, Changes::default()).await.unwrap();
        assert_eq!(f.count("SELECT count(*) FROM saga_barrier").await, 1);
    }

    async fn a_commit_whose_changes_are_refused_leaves_nothing(f: &Fixture) {
        let row = outbox_row(SagaId::random());
        let tx = f.db.begin_plain().await.unwrap();
        tx.execute(NOTE, params!["a"]).await.unwrap();
        let error = f.db.commit(tx, Changes { outbox: vec![row.clone(), row], ..Changes::default() }).await.unwrap_err();
        assert!(matches!(error, StoreError::Broken(_)), "{error:?}");
        assert_eq!(f.count(NOTES).await, 0);
        assert_eq!(f.count("SELECT count(*) FROM saga_outbox").await, 0);
    }

    async fn reads_do_not_see_what_is_not_committed(f: &Fixture) {
        let tx = f.db.begin_plain().await.unwrap();
        tx.execute(NOTE, params!["a"]).await.unwrap();
        assert_eq!(f.count(NOTES).await, 0);
        f.db.commit(tx, Changes::default()).await.unwrap();
        assert_eq!(f.count(NOTES).await, 1);
    }
}

/// PostgreSQL's word for a conflict, from the server itself.
async fn conflict(tx: &saga_store::Tx) -> Result<(), StoreError> {
    if tx.postgres().is_some() {
        tx.execute("DO $do$ BEGIN RAISE EXCEPTION 'as if' USING ERRCODE = '40001'; END $do$", []).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_error_that_a_handler_has_swallowed_is_not_committed() {
    let Some(f) = crate::support::Fixture::postgres().await else { return };
    for changes in [Changes::default(), Changes { outbox: vec![outbox_row(SagaId::random())], ..Changes::default() }] {
        let tx = f.db.begin_plain().await.unwrap();
        tx.execute(NOTE, params!["a"]).await.unwrap();
        tx.postgres().unwrap().batch_execute("SELECT 1 / 0").await.unwrap_err();
        let error = f.db.commit(tx, changes).await.unwrap_err();
        assert!(matches!(error, StoreError::Rejected(_)), "it is its handler's fault: {error:?}");
        assert_eq!(f.count(NOTES).await, 0);
    }
}

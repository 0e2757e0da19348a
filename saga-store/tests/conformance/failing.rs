//! A PostgreSQL that stops answering, or goes away, in the middle of things.

use saga_core::store::{Changes, Store, StoreError};
use saga_store::{Db, params};
use saga_test_support::{postgres_url, proxy::Proxy};

use crate::support::{self, Fixture, MIGRATIONS};

const NOTE: &str = "INSERT INTO note (id) VALUES ($1)";

/// A database by way of a proxy, which can freeze and cut its connections.
async fn behind_a_proxy(f: &Fixture) -> (Db, Proxy) {
    let url = support::postgres_url().unwrap();
    let proxy = Proxy::to(postgres_url::address(&url).unwrap()).await.unwrap();
    let url = postgres_url::at(&url, proxy.addr()).unwrap();
    (Db::connect(url.parse().unwrap(), &f.schema, MIGRATIONS).await.unwrap(), proxy)
}

fn unavailable<T>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{:?}", result.err());
}

#[tokio::test]
async fn a_server_that_freezes_is_unavailable_and_not_waited_for_for_ever() {
    let Some(f) = Fixture::postgres().await else { return };
    let (db, proxy) = behind_a_proxy(&f).await;
    let (tx, idle) = (db.begin_plain().await.unwrap(), db.begin_plain().await.unwrap());
    tx.execute(NOTE, params!["lost"]).await.unwrap();
    drop(idle);
    proxy.freeze();
    // From here on, waiting takes no time.
    tokio::time::pause();
    unavailable(tx.execute(NOTE, params!["hangs"]).await);
    unavailable(db.begin_plain().await);
    unavailable(db.summary().await);
    unavailable(db.commit(tx, Changes::default()).await);
    tokio::time::resume();
    proxy.open();
    db.summary().await.unwrap();
    assert_eq!(f.count("SELECT count(*) FROM note").await, 0);
}

#[tokio::test]
async fn a_connection_that_breaks_is_unavailable_and_the_next_one_works() {
    let Some(f) = Fixture::postgres().await else { return };
    let (db, proxy) = behind_a_proxy(&f).await;
    let tx = db.begin_plain().await.unwrap();
    tx.execute(NOTE, params!["lost"]).await.unwrap();
    proxy.close();
    unavailable(tx.execute(NOTE, params!["cut"]).await);
    unavailable(db.commit(tx, Changes::default()).await);
    proxy.open();
    let tx = db.begin_plain().await.unwrap();
    tx.execute(NOTE, params!["kept"]).await.unwrap();
    db.commit(tx, Changes::default()).await.unwrap();
    assert_eq!(f.count("SELECT count(*) FROM note").await, 1);
}

#[tokio::test]
async fn a_session_that_the_server_ends_is_unavailable_and_the_next_one_works() {
    let Some(f) = Fixture::postgres().await else { return };
    let other = f.another().await;
    for _ in 0..2 {
        let tx = f.db.begin_plain().await.unwrap();
        other
            .query(
                "SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity
                 WHERE application_name = current_schema() AND pid <> pg_backend_pid()",
                [],
            )
            .await
            .unwrap();
        unavailable(tx.execute(NOTE, params!["lost"]).await);
    }
    f.db.summary().await.unwrap();
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_is_ended_and_lets_go_of_its_locks() {
    const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND application_name = current_schema()";
    let Some(f) = Fixture::postgres().await else { return };
    let holder = f.db.begin_plain().await.unwrap();
    holder.execute("UPDATE stock SET available = 1", []).await.unwrap();
    // More often than there are connections.
    for _ in 0..10 {
        let tx = f.db.begin_plain().await.unwrap();
        tx.execute(NOTE, params!["locked"]).await.unwrap();
        let mut waits = Box::pin(tx.execute("UPDATE stock SET available = 2", []));
        while f.count(WAITING).await == 0 {
            assert!(futures::poll!(&mut waits).is_pending());
        }
        drop(waits);
        drop(tx);
        while f.count(WAITING).await > 0 {}
    }
    f.db.commit(holder, Changes::default()).await.unwrap();
    let tx = f.db.begin_plain().await.unwrap();
    tx.execute(NOTE, params!["locked"]).await.unwrap();
    drop(tx);
    assert_eq!(f.count("SELECT available FROM stock").await, 1);
}

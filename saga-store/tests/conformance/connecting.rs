//! Databases that are down, wrong, or slow to answer.

use std::str::FromStr;

use saga_core::store::{Store, StoreError};
use saga_store::{ConnectError, DatabaseUrl, Db};
use tokio::net::TcpListener;

use crate::support::postgres_url;

fn open(url: &str) -> Db {
    Db::open(DatabaseUrl::from_str(url).unwrap(), "order", &[]).unwrap()
}

/// The live server's URL with another part.
fn live(from: &str, to: &str) -> Option<String> {
    let url = postgres_url()?;
    assert!(url.contains(from), "TEST_DATABASE_URL has {from}");
    Some(url.replacen(from, to, 1))
}

#[tokio::test]
async fn a_refused_connection_may_succeed_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://saga:hunter2@{}/saga", listener.local_addr().unwrap());
    drop(listener);
    let db = open(&url);
    let error = db.prepare().await.unwrap_err();
    assert!(matches!(error, ConnectError::Unavailable(_)), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let error = db.summary().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_and_says_nothing_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let db = open(&format!("postgres://saga@{}/saga", listener.local_addr().unwrap()));
    let error = db.prepare().await.unwrap_err();
    assert!(matches!(error, ConnectError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_a_wrong_setting() {
    let Some(url) = postgres_url() else { return };
    let (start, database) = url.rsplit_once('/').unwrap();
    let options = database.split_once('?').map(|(_, options)| format!("?{options}")).unwrap_or_default();
    let error = open(&format!("{start}/no_such_database{options}")).prepare().await.unwrap_err();
    assert!(matches!(error, ConnectError::Misconfigured(_)), "{error:?}");
}

#[tokio::test]
async fn a_user_that_does_not_exist_is_a_wrong_setting() {
    let Some(url) = live("://", "://no_such_user:hunter2@") else { return };
    let (start, rest) = url.split_once("hunter2@").unwrap();
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    let error = open(&format!("{start}hunter2@{rest}")).prepare().await.unwrap_err();
    assert!(matches!(error, ConnectError::Misconfigured(_)), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_a_wrong_setting() {
    let error = open("sqlite:///dev/null/orders.db").prepare().await.unwrap_err();
    assert!(matches!(error, ConnectError::Misconfigured(_)), "{error:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_a_wrong_setting() {
    let path = std::env::temp_dir().join(format!("saga-store-{}", uuid::Uuid::new_v4()));
    std::fs::write(&path, "a text that is long enough to be looked at as the header of a database").unwrap();
    let error = open(&format!("sqlite://{}", path.display())).prepare().await.unwrap_err();
    assert!(matches!(error, ConnectError::Misconfigured(_)), "{error:?}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn names_that_cannot_be_schemas_are_refused() {
    for name in ["", "pg_order", &"x".repeat(64)] {
        assert!(Db::open("sqlite::memory:".parse().unwrap(), name, &[]).is_err(), "{name}");
    }
}

//! Migrations: once, in order, also when several processes start at once.

use saga_core::store::{Changes, Store};
use saga_store::{ConnectError, Db, Migration, params};

use crate::support::MIGRATIONS;

const CHANGED: &[Migration] = &[Migration { name: "stock", sql: "CREATE TABLE stock (sku text PRIMARY KEY)" }];
const MORE: &[Migration] = &[
    MIGRATIONS[0],
    MIGRATIONS[1],
    Migration { name: "more", sql: "CREATE TABLE more (id text PRIMARY KEY); INSERT INTO more VALUES ('1')" },
];
const FAULTY: &[Migration] = &[
    MIGRATIONS[0],
    MIGRATIONS[1],
    Migration { name: "faulty", sql: "CREATE TABLE faulty (id text PRIMARY KEY); INSERT INTO nowhere VALUES (1)" },
];

on_both! {
    async fn preparing_again_changes_nothing(f: &Fixture) {
        let applied = f.count("SELECT count(*) FROM saga_migration").await;
        f.db.prepare().await.unwrap();
        f.another().await.prepare().await.unwrap();
        assert_eq!(f.count("SELECT available FROM stock").await, 100);
        assert!(applied > 2);
        assert_eq!(f.count("SELECT count(*) FROM saga_migration").await, applied);
    }

    async fn an_older_program_says_at_the_start_that_it_does_not_know_the_tables(f: &Fixture) {
        let newer = "INSERT INTO saga_migration (name, sql, applied_at) VALUES ($1, 'SELECT 1', '2026-01-01T00:00:00Z')";
        for (name, refused) in [("of the participant's own", false), ("saga/of a newer framework", true)] {
            let tx = f.db.begin_plain().await.unwrap();
            tx.execute(newer, params![name]).await.unwrap();
            f.db.commit(tx, Changes::default()).await.unwrap();
            match f.db.prepare().await {
                Ok(()) => assert!(!refused, "{name}"),
                Err(ConnectError::Migration { name: told, message }) => {
                    assert!(refused && told == name && message.contains("newer version"), "{told}: {message}");
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

async fn race(f: &crate::support::Fixture) {
    let open = |migrations| Db::open(f.url.clone(), &f.schema, migrations).unwrap();
    let racers = (0..4).map(|_| {
        let db = open(MORE);
        tokio::spawn(async move { db.prepare().await })
    });
    for racer in racers.collect::<Vec<_>>() {
        racer.await.unwrap().unwrap();
    }
    assert_eq!(f.count("SELECT count(*) FROM more").await, 1);
    // An older program runs beside a newer one.
    open(MIGRATIONS).prepare().await.unwrap();

    let error = open(CHANGED).prepare().await.unwrap_err();
    assert!(matches!(&error, ConnectError::Migration { name, .. } if name == "stock"), "{error}");
    let error = open(FAULTY).prepare().await.unwrap_err();
    assert!(matches!(&error, ConnectError::Migration { name, .. } if name == "faulty"), "{error}");
    f.db.query("SELECT id FROM faulty", []).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_migrate_at_once_do_it_once_on_sqlite() {
    race(&crate::support::Fixture::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_migrate_at_once_do_it_once_on_postgresql() {
    if let Some(f) = crate::support::Fixture::postgres().await {
        race(&f).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn participants_share_a_database_and_no_table() {
    let Some(f) = crate::support::Fixture::postgres().await else { return };
    let other = crate::support::Fixture::postgres().await.unwrap();
    f.db.transaction(async |tx| {
        tx.execute("UPDATE stock SET available = 1", []).await?;
        Ok::<_, saga_core::store::StoreError>((tx, (), Vec::new()))
    })
    .await
    .unwrap();
    assert_eq!(other.count("SELECT available FROM stock").await, 100);
}

//! The databases for tests: SQLite in memory, and PostgreSQL when it is configured.

use saga_core::store::{Changes, Store};
use saga_store::{Db, Migration};
use uuid::Uuid;

/// Runs the test on SQLite, and again on PostgreSQL when it is configured. The PostgreSQL run has its own schema, which
/// is dropped when the test has passed.
///
/// # Panics
/// When a database cannot be opened, or the test fails.
pub async fn on_each_database(migrations: &'static [Migration], test: impl AsyncFn(Db)) {
    test(in_memory(migrations).await).await;
    let Some(url) = saga_live::postgres() else { return };
    let schema = format!("test_{}", Uuid::new_v4().simple());
    let db = Db::connect(url.parse().unwrap(), &schema, migrations).await.unwrap();
    test(db.clone()).await;
    let tx = db.begin_plain().await.unwrap();
    tx.postgres().unwrap().batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await.unwrap();
    db.commit(tx, Changes::default()).await.unwrap();
}

/// A SQLite database in memory, for tests in virtual time, which PostgreSQL does not follow.
///
/// # Panics
/// When it cannot be opened.
pub async fn in_memory(migrations: &'static [Migration]) -> Db {
    Db::connect("sqlite::memory:".parse().unwrap(), "test", migrations).await.unwrap()
}

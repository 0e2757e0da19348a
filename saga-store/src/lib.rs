//! Participants' databases: the local transaction of a saga step, on PostgreSQL and on SQLite, behind one API.
//!
//! ```
//! use saga_store::{Db, Migration, Rows, params};
//!
//! const MIGRATIONS: &[Migration] = &[Migration {
//!     name: "stock",
//!     sql: "CREATE TABLE stock (sku text PRIMARY KEY, available bigint NOT NULL)",
//! }];
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let db = Db::open("sqlite::memory:".parse()?, "inventory", MIGRATIONS)?;
//! db.prepare().await?;
//! db.transaction(async |tx| {
//!     let rows: Rows = [("SKU-1", 10), ("SKU-2", 5)].into_iter().map(|(sku, n)| params![sku, n]).collect();
//!     tx.execute_rows(
//!         "INSERT INTO stock (sku, available) SELECT r.sku, r.n FROM :rows(sku text, n bigint) r",
//!         &rows,
//!         params![],
//!     )
//!     .await?;
//!     Ok::<_, saga_core::store::StoreError>((tx, (), Vec::new()))
//! })
//! .await?;
//! let row = db.query_opt("SELECT available FROM stock WHERE sku = $1", params!["SKU-2"]).await?;
//! assert_eq!(row.map(|row| row.get::<i64>("available")).transpose()?, Some(5));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! The features `postgres` and `sqlite` say which databases a build has; both are on by default.

mod columns;
mod db;
#[cfg(feature = "postgres")]
mod deferred;
mod error;
#[cfg(feature = "postgres")]
mod insert;
mod migrate;
mod outbox;
#[cfg(feature = "postgres")]
mod postgres;
mod row;
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
mod tx;
mod url;
mod value;
mod write;

pub use db::Db;
pub use error::{ConnectError, Misconfigured, UrlError};
pub use migrate::Migration;
pub use outbox::{Outbox, Publishing};
pub use row::{Column, Row};
pub use tx::Tx;
pub use url::DatabaseUrl;
pub use value::{FromValue, Rows, Value};
pub use write::Write;

// For direct use of the databases' own APIs through `Tx::postgres` and `Tx::sqlite`.
#[cfg(feature = "sqlite")]
pub use rusqlite;
#[cfg(feature = "postgres")]
pub use tokio_postgres;

#[cfg(not(any(feature = "postgres", feature = "sqlite")))]
compile_error!("saga-store has no database: enable its feature `postgres`, `sqlite` or both");

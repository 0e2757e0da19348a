//! Two banks in memory, and a request.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(dead_code, reason = "each test program uses some of it")]

use saga::{
    prelude::*,
    store::{Changes, Store},
};
use transfer::{events::TransferRequested, payee, payer};

pub(crate) const ID: Uuid = Uuid::from_u128(1);
pub(crate) const CLOSED: &str = "account_closed";

/// A request to move money from Ada to the shop.
pub(crate) fn requested(cents: i64) -> TransferRequested {
    TransferRequested { transfer_id: ID, from: "ada".to_owned(), to: "shop".to_owned(), cents }
}

/// The payer's bank, where this is on Ada's account.
pub(crate) async fn payer_with(cents: i64) -> Db {
    let db = in_memory("payer", payer::MIGRATIONS).await;
    execute(&db, "INSERT INTO accounts (account, cents) VALUES ('ada', $1)", params![cents]).await;
    db
}

/// The payee's bank, with an open and a closed account.
pub(crate) async fn payee() -> Db {
    let db = in_memory("payee", payee::MIGRATIONS).await;
    let accounts = "INSERT INTO accounts (account, cents, closed) VALUES ('shop', 0, FALSE), ('gone', 0, TRUE)";
    execute(&db, accounts, params![]).await;
    db
}

async fn in_memory(name: &str, migrations: &'static [Migration]) -> Db {
    Db::connect("sqlite::memory:".parse().unwrap(), name, migrations).await.unwrap()
}

pub(crate) async fn execute(db: &Db, sql: &'static str, params: impl AsRef<[saga::database::Value]>) {
    let tx = db.begin_plain().await.unwrap();
    tx.execute(sql, params).await.unwrap();
    db.commit(tx, Changes::default()).await.unwrap();
}

//! Transactions inside tasks: their futures are `Send`, as HTTP handlers must be.

use saga_core::store::StoreError;
use saga_store::{Db, params};

async fn handler(db: Db, name: String) -> Result<u64, StoreError> {
    let borrowed = name.as_str();
    db.transaction(async |tx| {
        let (one, two) =
            futures::join!(tx.query_opt("SELECT $1 AS a", params![borrowed]), tx.query("SELECT $1 AS b", params![1]),);
        let found = one?.map(|row| row.get::<String>("a")).transpose()?;
        let numbers = two?;
        let counted = numbers.len() as u64 + u64::from(found.as_deref() == Some(borrowed));
        Ok((tx, counted, Vec::new()))
    })
    .await
}

#[tokio::test]
async fn a_transaction_can_run_in_a_spawned_task() {
    let db = Db::connect("sqlite::memory:".parse().unwrap(), "order", &[]).await.unwrap();
    assert_eq!(tokio::spawn(handler(db, "x".into())).await.unwrap().unwrap(), 2);
}

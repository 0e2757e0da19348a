//! A guard on what PostgreSQL makes of our statements: tables that were empty when a plan was made must not be read whole
//! for ever after.

use std::sync::Arc;

use uuid::Uuid;

use super::{Postgres, admit, commit, connect::Target, due, session::Opening};
use crate::url::{DatabaseUrl, Place};

/// The plan that a prepared statement keeps.
async fn plan(client: &tokio_postgres::Client, sql: &str) -> String {
    let params = (1..=20).take_while(|n| sql.contains(&format!("${n}"))).map(|_| "NULL").collect::<Vec<_>>().join(", ");
    client.batch_execute(&format!("PREPARE planned AS {sql}")).await.unwrap();
    let explained = client.simple_query(&format!("EXPLAIN (COSTS off) EXECUTE planned({params})")).await.unwrap();
    client.batch_execute("DEALLOCATE planned").await.unwrap();
    let lines = explained.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn statements_planned_on_empty_tables_read_no_table_whole() {
    let Some(url) = saga_live::postgres() else { return };
    let Place::Postgres(url) = url.parse::<DatabaseUrl>().unwrap().0 else { panic!("TEST_DATABASE_URL is PostgreSQL") };
    let schema = format!("test_{}", Uuid::new_v4().simple());
    Postgres::new((*url).clone(), &schema).prepare(&[]).await.unwrap();
    let target = Arc::new(Target::new(*url, &schema));
    let link = target.connect().await.unwrap();
    link.client
        .batch_execute("ANALYZE saga_barrier, saga_outbox, saga_parked, saga_timer, saga_progress")
        .await
        .unwrap();

    link.client.batch_execute(&Opening::new(std::time::Duration::from_secs(1)).sql).await.unwrap();
    let (admit, commit) = (admit::STATEMENTS, commit::STATEMENTS);
    for sql in admit.iter().chain(due::STATEMENTS).chain(commit) {
        let plan = plan(&link.client, sql).await;
        // An index is read whole where nothing says which entries of it are wanted.
        for (scan, next) in plan.lines().zip(plan.lines().skip(1).chain([""])) {
            assert!(!scan.contains("Seq Scan on saga_"), "{sql}\n{plan}");
            let whole = scan.contains("Index") && scan.contains("Scan using") && !next.contains("Index Cond");
            assert!(!whole || scan.contains("saga_outbox_seq"), "{sql}\n{plan}");
        }
    }
    link.client.batch_execute(&format!("ROLLBACK; DROP SCHEMA {schema} CASCADE")).await.unwrap();
}

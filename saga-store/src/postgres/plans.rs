//! Tests of query plans: a plan that was made on empty tables must not scan a whole table later.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{Postgres, PostgresUrl, admit, commit, connect::Target, outbox, parked, session::Opening, summary, timers};

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

/// The tables of a participant, empty, in a schema of their own.
async fn tables() -> Option<(tokio_postgres::Client, String)> {
    let url = saga_test_support::servers::postgres()?;
    let url = PostgresUrl::parse(&url).unwrap().unwrap();
    let schema = format!("test_{}", Uuid::new_v4().simple());
    Postgres::new(url.clone(), &schema).prepare(&[]).await.unwrap();
    let link = Arc::new(Target::new(url, &schema)).connect().await.unwrap();
    Some((link.client, schema))
}

/// Pages that a statement reads, and the time it takes.
async fn cost(client: &tokio_postgres::Client, sql: &str, params: &str) -> (u64, Duration) {
    client.batch_execute(&format!("PREPARE measured AS {sql}")).await.unwrap();
    let began = Instant::now();
    client.simple_query(&format!("EXECUTE measured({params})")).await.unwrap();
    let took = began.elapsed();
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, TIMING off, SUMMARY off) EXECUTE measured({params})");
    let explained = client.simple_query(&explain).await.unwrap();
    client.batch_execute("DEALLOCATE measured").await.unwrap();
    let lines = explained.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    // The first such line is the total.
    let buffers = lines.into_iter().find(|line| line.contains("Buffers:")).unwrap_or_default();
    let number = |word: &str| word.split_once('=').and_then(|(_, number)| number.parse::<u64>().ok());
    (buffers.split_whitespace().filter_map(number).sum(), took)
}

#[tokio::test]
async fn what_a_million_rows_wait_for_is_measured_and_walked_through_in_few_pages() {
    let Some((client, schema)) = tables().await else { return };
    // The plan is made on empty tables, as in a new service.
    client
        .batch_execute(
            "SET statement_timeout = 0; SET plan_cache_mode = force_generic_plan;
             INSERT INTO saga_outbox (id, aggregatetype, aggregateid, type, topic, payload, headers, created_at)
             SELECT gen_random_uuid(), 'order', gen_random_uuid()::text, 'order.created', 'order.events',
                 convert_to(repeat('x', 100), 'UTF8'), '[]', now() FROM generate_series(1, 1000000);
             INSERT INTO saga_parked (saga_id, event_id, topic, topic_partition, topic_offset, headers, attempts, failed_at,
                 due, held, reason)
             SELECT gen_random_uuid(), n::text, 't', 0, n, '[]', 1, now(), CASE WHEN n % 2 = 0 THEN now() END, n % 2 = 1, ''
             FROM generate_series(1, 50000) n;
             INSERT INTO saga_parked (saga_id, event_id, topic, topic_partition, topic_offset, headers, attempts, due, held, reason,
                 aside, round)
             SELECT gen_random_uuid(), n::text, 't', 0, n, '[]', 0, now() + interval '1 day', false, '', true, 1
             FROM generate_series(1, 200000) n;
             INSERT INTO saga_timer (saga_id, step, due) SELECT gen_random_uuid(), 's', now() FROM generate_series(1, 50000);
             INSERT INTO saga_progress (saga_id, begun_at) SELECT gen_random_uuid(), now() FROM generate_series(1, 50000);",
        )
        .await
        .unwrap();
    let all = client.query_one("SELECT pg_relation_size('saga_outbox') / 8192", &[]).await.unwrap();
    let all = all.get::<_, i64>(0).unsigned_abs();
    let (summary, took) = cost(&client, summary::SUMMARY, "10000").await;
    println!("a summary: {summary} pages of more than {all}, {took:?}");
    // After 100,000 rows in flight.
    let (page, paged) = cost(&client, outbox::WALK, "100000, 2, 2000").await;
    println!("a page of a walk: {page} pages, {paged:?}");
    client.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await.unwrap();
    assert!(all > 25_000, "the table is large: {all}");
    // Each counted row may be on a page of its own.
    assert!(summary < 20_000, "{summary}");
    assert!(page < 500, "{page}");
}

#[tokio::test]
async fn statements_planned_on_empty_tables_read_no_table_whole() {
    let Some((client, schema)) = tables().await else { return };
    client.batch_execute("ANALYZE saga_barrier, saga_outbox, saga_parked, saga_timer, saga_progress").await.unwrap();

    client.batch_execute(&Opening::new(std::time::Duration::from_secs(1)).sql).await.unwrap();
    let statements =
        [admit::STATEMENTS, commit::STATEMENTS, outbox::STATEMENTS, parked::STATEMENTS, timers::STATEMENTS].concat();
    for sql in statements {
        let plan = plan(&client, sql).await;
        // Without an Index Cond the whole index is read.
        for (scan, next) in plan.lines().zip(plan.lines().skip(1).chain([""])) {
            assert!(!scan.contains("Seq Scan on saga_"), "{sql}\n{plan}");
            let whole = scan.contains("Index") && scan.contains("Scan using") && !next.contains("Index Cond");
            assert!(!whole || scan.contains("saga_outbox_seq"), "{sql}\n{plan}");
        }
    }
    let measure = plan(&client, summary::SUMMARY).await;
    assert!(!measure.contains("Seq Scan on saga_"), "{measure}");
    client.batch_execute(&format!("ROLLBACK; DROP SCHEMA {schema} CASCADE")).await.unwrap();
}

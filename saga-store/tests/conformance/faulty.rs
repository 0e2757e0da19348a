//! Faults of all events, which no event may be blamed for: the framework's own tables and statements.

use saga_core::{
    barrier::Op,
    event::SagaId,
    store::{Changes, Phase, Refusal, Store, StoreError},
};
use saga_store::{Db, params};

use crate::support::{PATIENCE, admission, outbox_row};

fn rejected<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Refusal {
    match result {
        Err(StoreError::Rejected(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn broken<T>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Broken(_))), "{:?}", result.err());
}

/// Changes the schema, as a newer version or an operator might.
async fn alter(db: &Db, sql: &'static str) {
    let tx = db.begin_plain().await.unwrap();
    tx.execute(sql, []).await.unwrap();
    db.commit(tx, Changes::default()).await.unwrap();
}

fn published() -> Changes {
    Changes { outbox: vec![outbox_row(SagaId::random())], ..Changes::default() }
}

on_both! {
    async fn a_column_of_ours_that_this_program_does_not_know_is_no_events_fault(f: &Fixture) {
        // NOT NULL without a default: on SQLite a constraint on what is there says the same.
        let postgres = f.url.to_string().starts_with("postgres");
        if postgres {
            alter(&f.db, "ALTER TABLE saga_outbox ADD COLUMN origin text NOT NULL").await;
            alter(&f.db, "ALTER TABLE saga_barrier ADD COLUMN origin text NOT NULL").await;
        } else {
            alter(&f.db, "CREATE TRIGGER newer BEFORE INSERT ON saga_outbox BEGIN SELECT raise(ABORT, 'origin is missing'); END").await;
            alter(&f.db, "CREATE TRIGGER newest BEFORE INSERT ON saga_barrier BEGIN SELECT raise(ABORT, 'origin is missing'); END").await;
        }
        let tx = f.db.begin_plain().await.unwrap();
        broken(f.db.commit(tx, published()).await);
        broken(f.db.begin(&[admission(SagaId::random(), Op::Action, Phase::Whole)], PATIENCE).await);
    }

    async fn a_missing_table_is_no_events_fault(f: &Fixture) {
        alter(&f.db, "DROP TABLE note").await;
        let tx = f.db.begin_plain().await.unwrap();
        broken(tx.execute("INSERT INTO note (id) VALUES ($1)", params!["a"]).await);
    }

    async fn only_what_a_handler_wrote_is_its_events_fault(f: &Fixture) {
        let tx = f.db.begin_plain().await.unwrap();
        rejected(tx.execute("UPDATE stock SET available = -1", []).await);
    }

    async fn what_a_value_does_in_a_statement_that_is_right_is_its_events_fault(f: &Fixture) {
        for sql in [
            "SELECT abs($1 - 9223372036854775807) AS a",
            "SELECT $1 + 9223372036854775807 AS a",
        ] {
            let tx = f.db.begin_plain().await.unwrap();
            let sum = if sql.contains("abs") { -2_i64 } else { 1 };
            rejected(tx.query(sql, params![sum]).await.and_then(|rows| rows[0].get::<i64>(0)));
        }
    }

    async fn a_failure_that_a_handler_has_thrown_away_is_its_own_and_not_everybodys(f: &Fixture) {
        let tx = f.db.begin_plain().await.unwrap();
        broken(tx.execute("SELECT * FROM nowhere", []).await);
        rejected(f.db.commit(tx, published()).await);
        assert_eq!(f.count("SELECT count(*) FROM saga_outbox").await, 0);
    }
}

#[tokio::test]
async fn a_trigger_that_raises_on_a_table_of_ours_and_a_right_that_is_missing_are_no_events_fault() {
    let Some(f) = crate::support::Fixture::postgres().await else { return };
    alter(
        &f.db,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $do$ BEGIN RAISE EXCEPTION 'no'; END $do$",
    )
    .await;
    alter(&f.db, "CREATE TRIGGER refuse BEFORE INSERT ON saga_outbox FOR EACH ROW EXECUTE FUNCTION refuse()").await;
    let tx = f.db.begin_plain().await.unwrap();
    broken(f.db.commit(tx, published()).await);
    // Whose constraint it is counts, whoever's statement met it.
    alter(&f.db, "ALTER TABLE saga_timer ADD CHECK (step <> 'x')").await;
    let tx = f.db.begin_plain().await.unwrap();
    broken(tx.execute("INSERT INTO saga_timer (saga_id, step, due) VALUES (gen_random_uuid(), 'x', now())", []).await);
}

#[tokio::test]
async fn a_deferred_constraint_of_the_participants_own_is_its_events_fault_at_commit() {
    let Some(f) = crate::support::Fixture::postgres().await else { return };
    alter(&f.db, "CREATE TABLE pair (a text UNIQUE DEFERRABLE INITIALLY DEFERRED)").await;
    let tx = f.db.begin_plain().await.unwrap();
    tx.execute("INSERT INTO pair VALUES ('x'), ('x')", []).await.unwrap();
    let error = f.db.commit(tx, published()).await.unwrap_err();
    assert!(matches!(error, StoreError::Rejected(_)), "{error:?}");
    assert_eq!(f.count("SELECT count(*) FROM saga_outbox").await, 0);
}

#[tokio::test]
async fn what_a_deferred_trigger_raises_at_commit_is_its_events_fault() {
    let Some(f) = crate::support::Fixture::postgres().await else { return };
    alter(
        &f.db,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $do$ BEGIN RAISE EXCEPTION 'no'; END $do$",
    )
    .await;
    alter(
        &f.db,
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED \
            FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let tx = f.db.begin_plain().await.unwrap();
    tx.execute("INSERT INTO note (id) VALUES ($1)", params!["a"]).await.unwrap();
    rejected(f.db.commit(tx, published()).await);
}

#[tokio::test]
async fn a_code_that_no_list_has_is_the_fault_of_the_handler_that_met_it_and_costs_no_connection() {
    let Some(f) = crate::support::Fixture::postgres().await else { return };
    let backend = "SELECT CAST(pg_backend_pid() AS bigint) AS pid";
    alter(
        &f.db,
        "CREATE FUNCTION fail(code text) RETURNS text LANGUAGE plpgsql AS \
            $do$ BEGIN RAISE EXCEPTION 'as told' USING ERRCODE = code; END $do$",
    )
    .await;
    let before: i64 = f.db.begin_plain().await.unwrap().query(backend, []).await.unwrap()[0].get(0).unwrap();
    for code in ["P0002", "P0003", "P0004", "20000", "54001", "MY001", "22012", "38000"] {
        let tx = f.db.begin_plain().await.unwrap();
        let refusal = rejected(tx.query("SELECT fail($1) AS f", params![code]).await);
        assert_eq!(refusal.kind(), code);
        drop(tx);
        let now: i64 = f.db.begin_plain().await.unwrap().query(backend, []).await.unwrap()[0].get(0).unwrap();
        assert_eq!(now, before, "{code}: the connection is as good as before");
    }
    for code in ["08006", "25006", "40003", "53100", "55000", "57P03", "58030", "XX001"] {
        let tx = f.db.begin_plain().await.unwrap();
        let error = tx.query("SELECT fail($1) AS f", params![code]).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{code}: {error:?}");
    }
}

#[tokio::test]
async fn refusals_of_one_constraint_are_of_one_kind_whatever_values_they_quote() {
    let Some(f) = crate::support::Fixture::postgres().await else { return };
    let mut kinds = std::collections::BTreeSet::new();
    for number in ["1", "2"] {
        let tx = f.db.begin_plain().await.unwrap();
        let refusal = rejected(tx.query("SELECT CAST($1 || 'x' AS bigint) AS n", params![number]).await);
        assert!(refusal.to_string().contains(number), "{refusal}");
        kinds.insert(refusal.kind().to_owned());
        let tx = f.db.begin_plain().await.unwrap();
        kinds.insert(rejected(tx.execute("UPDATE stock SET available = -1", []).await).kind().to_owned());
    }
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    assert!(kinds.iter().any(|kind| kind.starts_with("23514 stock ")), "{kinds:?}");
}

#[tokio::test]
async fn a_parameter_that_does_not_fit_is_its_events_fault_by_its_value_and_nobodys_by_its_type() {
    let Some(f) = crate::support::Fixture::postgres().await else { return };
    for (sql, value) in [
        ("SELECT CAST(CAST($1 AS uuid) AS text) AS a", saga_store::Value::from("no id")),
        ("SELECT CAST(CAST($1 AS integer) AS bigint) AS a", 3_000_000_000_i64.into()),
        ("SELECT CAST(CAST($1 AS smallint) AS bigint) AS a", 40_000_i64.into()),
    ] {
        let tx = f.db.begin_plain().await.unwrap();
        rejected(tx.query(sql, [value]).await);
    }
    let tx = f.db.begin_plain().await.unwrap();
    broken(tx.query("SELECT CAST(CAST($1 AS uuid) AS text) AS a", params![1]).await);
}

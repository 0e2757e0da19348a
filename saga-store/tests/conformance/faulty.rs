//! Faults of all events, which no event may be blamed for: the framework's own tables and statements.

use saga_core::{
    barrier::Op,
    event::SagaId,
    store::{Changes, Phase, Store, StoreError},
};
use saga_store::{Db, params};

use crate::support::{PATIENCE, admission, outbox_row};

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
        let error = tx.execute("UPDATE stock SET available = -1", []).await.unwrap_err();
        assert!(matches!(error, StoreError::Rejected(_)), "{error:?}");
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

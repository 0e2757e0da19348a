//! A row that somebody else has locked: it is waited for, but not for long, and whoever waits is told why it failed.

use std::time::{Duration, Instant};

use saga_core::{
    barrier::Op,
    event::SagaId,
    store::{Changes, Phase, Store, StoreError},
};
use saga_store::params;

use crate::support::{Fixture, PATIENCE, admission};

const SHORT: Duration = Duration::from_millis(100);
const SELL: &str = "UPDATE stock SET available = available - 1 WHERE sku = $1";

fn locked<T>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Locked(_))), "{:?}", result.err());
}

#[tokio::test]
async fn a_handlers_row_that_is_locked_is_waited_for_only_as_long_as_the_transaction_is_willing_to() {
    let Some(f) = Fixture::postgres().await else { return };
    let holder = f.db.begin_plain().await.unwrap();
    holder.execute(SELL, params!["SKU-1"]).await.unwrap();
    let began = Instant::now();
    let (tx, _) = f.db.begin(&[admission(SagaId::random(), Op::Action, Phase::Whole)], SHORT).await.unwrap();
    locked(tx.execute(SELL, params!["SKU-1"]).await);
    assert!((SHORT..PATIENCE).contains(&began.elapsed()), "{:?}", began.elapsed());
    locked(f.db.commit(tx, Changes::default()).await);
    assert_eq!(f.count("SELECT count(*) FROM saga_barrier").await, 0);
    f.db.commit(holder, Changes::default()).await.unwrap();
    let (tx, _) = f.db.begin(&[admission(SagaId::random(), Op::Action, Phase::Whole)], SHORT).await.unwrap();
    tx.execute(SELL, params!["SKU-1"]).await.unwrap();
    f.db.commit(tx, Changes::default()).await.unwrap();
    assert_eq!(f.count("SELECT available FROM stock").await, 98);
}

#[tokio::test]
async fn an_event_that_another_transaction_is_admitting_is_locked_and_the_session_stays() {
    let Some(f) = Fixture::postgres().await else { return };
    let event = [admission(SagaId::random(), Op::Action, Phase::Whole)];
    let (holder, _) = f.db.begin(&event, PATIENCE).await.unwrap();
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = current_schema()";
    let before = f.count(sessions).await;
    for _ in 0..3 {
        locked(f.db.begin(&event, SHORT).await);
    }
    assert!(f.count(sessions).await <= before + 1, "no connection is given up for it");
    drop(holder);
    assert!(f.db.begin(&event, PATIENCE).await.unwrap().1[0].action.is_none());
}

#[tokio::test]
async fn the_patience_of_one_transaction_is_not_that_of_the_next() {
    let Some(f) = Fixture::postgres().await else { return };
    for patience in [SHORT, Duration::from_secs(3), Duration::ZERO] {
        let (tx, _) = f.db.begin(&[admission(SagaId::random(), Op::Action, Phase::Whole)], patience).await.unwrap();
        let row = tx.query_opt("SELECT current_setting('lock_timeout') AS t", []).await.unwrap().unwrap();
        let told: String = row.get(0).unwrap();
        let expected = match patience.as_millis() {
            0 => "1ms".to_owned(),
            ms if ms < 1000 => format!("{ms}ms"),
            ms => format!("{}s", ms / 1000),
        };
        assert_eq!(told, expected, "never 0, which is for ever");
    }
}

#[tokio::test]
async fn a_process_that_stops_inside_a_transaction_lets_go_before_its_partitions_are_given_away() {
    let Some(f) = Fixture::postgres().await else { return };
    let tx = f.db.begin_plain().await.unwrap();
    let row = tx.query_opt("SELECT current_setting('idle_in_transaction_session_timeout') AS t", []).await.unwrap();
    assert_eq!(row.unwrap().get::<String>(0).unwrap(), "5s", "Kafka's session timeout is 10 s");
}

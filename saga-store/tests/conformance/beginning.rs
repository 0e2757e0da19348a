//! A BEGIN that fails alone, while what was sent behind it goes through: nothing of that may count.

use std::time::Duration;

use saga_core::{
    barrier::Op,
    event::SagaId,
    store::{Changes, Phase, Store, StoreError, Timer, TimerKind},
    trace::TraceContext,
};
use saga_store::{DatabaseUrl, Db};
use saga_test_support::postgres_proxy::{Fate, PostgresProxy};

use crate::support::{Fixture, MIGRATIONS, PATIENCE, admission, append, commit, postgres_url};

/// Cancelled by an operator or by its time limit; out of memory; beyond a limit of the server's configuration.
const CODES: [&str; 3] = ["57014", "53200", "53400"];

/// The fixture's database over a line that the test controls.
async fn line(f: &Fixture) -> (PostgresProxy, Db) {
    let proxy = PostgresProxy::to(&postgres_url().unwrap()).await.unwrap();
    let url: DatabaseUrl = proxy.url().parse().unwrap();
    let db = Db::connect(url, &f.schema, MIGRATIONS).await.unwrap();
    (proxy, db)
}

/// Makes the next BEGIN fail, and that alone.
fn fail_one(proxy: &PostgresProxy, code: &'static str) {
    let mut failed = false;
    proxy.judge(move |query| {
        if failed || !query.starts_with("BEGIN") {
            return Fate::Pass;
        }
        failed = true;
        Fate::Fail(code)
    });
}

fn unavailable<T>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{:?}", result.err());
}

#[tokio::test]
async fn an_admission_whose_begin_failed_has_admitted_nothing() {
    let Some(f) = Fixture::postgres().await else { return };
    let (proxy, db) = line(&f).await;
    for code in CODES {
        for (op, phase) in [(Op::Action, Phase::Whole), (Op::Action, Phase::Start), (Op::Compensate, Phase::Whole)] {
            let event = [admission(SagaId::random(), op, phase)];
            fail_one(&proxy, code);
            unavailable(db.begin(&event, PATIENCE).await);
            assert_eq!(f.count("SELECT count(*) FROM saga_barrier").await, 0, "{code}");
            let (tx, before) = db.begin(&event, PATIENCE).await.unwrap();
            assert!(before[0].action.is_none(), "the same event can still be admitted");
            drop(tx);
        }
    }
}

#[tokio::test]
async fn deadlines_whose_begin_failed_stay_armed() {
    let Some(f) = Fixture::postgres().await else { return };
    let (proxy, db) = line(&f).await;
    let (saga_id, kind, trace) = (SagaId::random(), TimerKind::Step, TraceContext::default());
    let timer = Timer { saga_id, step: "a", kind, after: Duration::ZERO, trace };
    commit(&f.db, Changes { arm: vec![timer], ..Changes::default() }).await;
    for code in CODES {
        fail_one(&proxy, code);
        unavailable(db.begin_due(10, PATIENCE).await);
        assert_eq!(f.count("SELECT count(*) FROM saga_timer").await, 1, "{code}");
    }
    assert_eq!(db.begin_due(10, PATIENCE).await.unwrap().1.len(), 1);
}

#[tokio::test]
async fn a_claim_needs_no_begin() {
    let Some(f) = Fixture::postgres().await else { return };
    let (proxy, db) = line(&f).await;
    commit(&f.db, Changes { park: vec![append(SagaId::random(), "e", 0)], ..Changes::default() }).await;
    proxy.judge(|query| if query.starts_with("SET") { Fate::Pass } else { Fate::Fail("57014") });
    assert_eq!(db.claim_parked(PATIENCE, 10, &[]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_transaction_without_its_mark_is_unavailable() {
    let Some(f) = Fixture::postgres().await else { return };
    let (proxy, db) = line(&f).await;
    proxy.judge(|query| if query.starts_with("BEGIN") { Fate::Instead("BEGIN") } else { Fate::Pass });
    unavailable(db.begin(&[admission(SagaId::random(), Op::Action, Phase::Whole)], PATIENCE).await);
    assert_eq!(f.count("SELECT count(*) FROM saga_barrier").await, 0);
}

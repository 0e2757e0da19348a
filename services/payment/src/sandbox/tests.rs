//! The sandbox gateway on a real database.

use futures::future::join_all;
use order_flow_testing::on_each_database;

use super::*;

const ORDER: Uuid = Uuid::from_u128(1);

fn charge_of(key: u128, payment_method: &str) -> Charge {
    let (currency, payment_method) = ("EUR".to_owned(), payment_method.to_owned());
    Charge { key: Uuid::from_u128(key), order_id: ORDER, amount_cents: 1000, currency, payment_method }
}

fn refund_of(charge_key: u128) -> Refund {
    Refund { key: Uuid::from_u128(charge_key + 1_000_000), charge_key: Uuid::from_u128(charge_key), order_id: ORDER }
}

async fn ledger(gateway: &SandboxGateway) -> (i64, usize, i64, i64) {
    let all = gateway.statement(ORDER).await.unwrap().unwrap();
    (all.calls, all.idempotency_keys.len(), all.captured_cents, all.refunded_cents)
}

async fn test(test: impl AsyncFn(SandboxGateway)) {
    on_each_database(SandboxGateway::LEDGER, async |db| test(SandboxGateway::new(db)).await).await;
}

#[tokio::test]
async fn a_repeated_charge_takes_the_money_once() {
    test(async |gateway| {
        for _ in 0..3 {
            assert_eq!(gateway.charge(charge_of(1, "tok_visa")).await, Ok(Decision::Captured));
        }
        assert_eq!(ledger(&gateway).await, (3, 1, 1000, 0));
    })
    .await;
}

#[tokio::test]
async fn the_same_charge_many_times_at_once_takes_the_money_once() {
    test(async |gateway| {
        let answers = join_all((0..50).map(|_| gateway.charge(charge_of(1, "tok_visa")))).await;
        assert!(answers.iter().all(|answer| *answer == Ok(Decision::Captured)));
        assert_eq!(ledger(&gateway).await, (50, 1, 1000, 0));
    })
    .await;
}

#[tokio::test]
async fn calls_at_the_same_time_each_get_their_own_answer() {
    test(async |gateway| {
        let methods = ["tok_visa", "tok_declined", "tok_timeout", "tok_flaky", "tok_else"];
        let calls = (0..100).map(|n| gateway.charge(charge_of(n, methods[n as usize % 5])));
        for (n, answer) in join_all(calls).await.into_iter().enumerate() {
            match methods[n % 5] {
                "tok_visa" | "tok_else" => assert_eq!(answer, Ok(Decision::Captured)),
                "tok_declined" => assert_eq!(answer, Ok(Decision::Declined)),
                _ => assert!(matches!(answer, Err(GatewayError::Transient(_))), "{answer:?}"),
            }
        }
        assert_eq!(ledger(&gateway).await, (100, 100, 40_000, 0));
    })
    .await;
}

#[tokio::test]
async fn a_flaky_card_is_charged_by_the_third_call() {
    test(async |gateway| {
        assert!(gateway.charge(charge_of(1, "tok_flaky")).await.is_err());
        assert!(gateway.charge(charge_of(1, "tok_flaky")).await.is_err());
        assert_eq!(gateway.charge(charge_of(1, "tok_flaky")).await, Ok(Decision::Captured));
        assert_eq!(ledger(&gateway).await, (3, 1, 1000, 0));
    })
    .await;
}

#[tokio::test]
async fn a_refund_returns_the_captured_amount() {
    test(async |gateway| {
        gateway.charge(charge_of(1, "tok_visa")).await.unwrap();
        for _ in 0..2 {
            assert_eq!(gateway.refund(refund_of(1)).await, Ok(()));
        }
        assert_eq!(ledger(&gateway).await, (1, 1, 1000, 1000));
    })
    .await;
}

#[tokio::test]
async fn a_charge_that_its_refund_has_overtaken_takes_nothing() {
    test(async |gateway| {
        assert_eq!(gateway.refund(refund_of(1)).await, Ok(()));
        assert_eq!(gateway.charge(charge_of(1, "tok_visa")).await, Ok(Decision::Declined));
        assert_eq!(ledger(&gateway).await, (1, 1, 0, 0));
    })
    .await;
}

#[tokio::test]
async fn when_the_writing_caller_is_cancelled_the_next_one_writes() {
    test(async |gateway| {
        let mut first = gateway.charge(charge_of(1, "tok_visa"));
        let mut second = gateway.charge(charge_of(2, "tok_visa"));
        assert!(futures::poll!(&mut first).is_pending(), "it has the turn");
        assert!(futures::poll!(&mut second).is_pending(), "it waits");
        drop(first);
        assert_eq!(second.await, Ok(Decision::Captured));
        assert_eq!(ledger(&gateway).await, (1, 1, 1000, 0));
    })
    .await;
}

#[tokio::test]
async fn the_ledger_outlives_the_gateway() {
    on_each_database(SandboxGateway::LEDGER, async |db| {
        SandboxGateway::new(db.clone()).charge(charge_of(1, "tok_visa")).await.unwrap();
        let reopened = SandboxGateway::new(db);
        assert_eq!(reopened.charge(charge_of(1, "tok_visa")).await, Ok(Decision::Captured));
        assert_eq!(ledger(&reopened).await, (2, 1, 1000, 0));
    })
    .await;
}

#[test]
fn the_ledger_is_beside_payments_database() {
    let beside = |url: &str| ledger_url(&url.parse().unwrap()).unwrap().to_string();
    assert_eq!(beside("sqlite://data/payment.db"), "sqlite://data/payment.sandbox_gateway.db");
    assert_eq!(beside("sqlite:///var/lib/payment"), "sqlite:///var/lib/payment.sandbox_gateway");
    assert_eq!(beside("postgres://saga@db/saga"), "postgres://saga@db:5432/saga");
    assert_eq!(beside("sqlite::memory:"), "sqlite::memory:");
}

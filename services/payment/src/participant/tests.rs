//! The payment on the production runtime, with the sandbox gateway: given, when, then.

use std::sync::Arc;

use order_flow_events::{
    InventoryReserved, PaymentCharged, PaymentDeclined, PaymentRefunded, Reason, ShippingCancelled,
};
use order_flow_testing::{address, in_memory};
use saga_core::testing::{Published, Scenario};
use saga_store::Db;
use uuid::Uuid;

use super::participant;
use crate::{MIGRATIONS, SandboxGateway};

const ORDER: Uuid = Uuid::from_u128(1);

struct Payment {
    db: Db,
    gateway: Arc<SandboxGateway>,
}

impl Payment {
    async fn new() -> Self {
        let gateway = Arc::new(SandboxGateway::new(in_memory(SandboxGateway::LEDGER).await));
        Self { db: in_memory(MIGRATIONS).await, gateway }
    }

    fn scenario(&self) -> Scenario<Db> {
        Scenario::new(participant(self.gateway.clone()), self.db.clone())
    }

    /// Calls, keys, captured amount, refunded amount.
    async fn ledger(&self) -> (i64, usize, i64, i64) {
        let all = self.gateway.statement(ORDER).await.unwrap().unwrap();
        (all.calls, all.idempotency_keys.len(), all.captured_cents, all.refunded_cents)
    }
}

fn reserved(payment_method: &str) -> InventoryReserved {
    InventoryReserved {
        order_id: ORDER,
        amount_cents: 1000,
        currency: "EUR".to_owned(),
        payment_method: payment_method.to_owned(),
        shipping_address: address("DE"),
    }
}

fn cancelled() -> ShippingCancelled {
    ShippingCancelled { order_id: ORDER, reason: Reason::CancelledByCustomer }
}

fn types(published: &[Published]) -> Vec<(&str, bool)> {
    published.iter().map(|event| (event.event_type.as_str(), event.null_compensation)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_card_is_charged_and_the_address_is_passed_on() {
    let payment = Payment::new().await;
    let published = payment.scenario().when(&reserved("tok_visa")).await;
    assert_eq!(published[0].read(), Some(PaymentCharged { order_id: ORDER, shipping_address: address("DE") }));
    assert_eq!(payment.ledger().await, (1, 1, 1000, 0));
}

#[tokio::test(start_paused = true)]
async fn a_declined_card_is_a_refusal() {
    let payment = Payment::new().await;
    let published = payment.scenario().when(&reserved("tok_declined")).await;
    assert_eq!(published[0].read(), Some(PaymentDeclined { order_id: ORDER, reason: Reason::PaymentDeclined }));
    assert_eq!(payment.ledger().await, (1, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flaky_card_is_charged_once_by_the_third_call_under_one_key() {
    let payment = Payment::new().await;
    let published = payment.scenario().when(&reserved("tok_flaky")).await;
    assert_eq!(types(&published), [("payment.charged", false)]);
    assert_eq!(payment.ledger().await, (3, 1, 1000, 0));
}

#[tokio::test(start_paused = true)]
async fn a_bank_that_never_answers_ends_in_a_refusal_of_its_own() {
    let payment = Payment::new().await;
    let published = payment.scenario().when(&reserved("tok_timeout")).await;
    assert_eq!(published[0].read(), Some(PaymentDeclined { order_id: ORDER, reason: Reason::PaymentUnavailable }));
    assert_eq!(published.len(), 1);
    assert_eq!(payment.ledger().await, (10, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_compensated_charge_is_refunded() {
    let payment = Payment::new().await;
    let published = payment.scenario().given(&reserved("tok_visa")).when(&cancelled()).await;
    assert_eq!(types(&published), [("payment.refunded", false)]);
    let event = PaymentRefunded { order_id: ORDER, reason: Reason::CancelledByCustomer };
    assert_eq!(published[0].read(), Some(event));
    assert_eq!(payment.ledger().await, (1, 1, 1000, 1000));
}

#[tokio::test(start_paused = true)]
async fn a_compensation_that_comes_first_prevents_the_charge() {
    let payment = Payment::new().await;
    let published = payment.scenario().when(&cancelled()).await;
    assert_eq!(types(&published), [("payment.refunded", true)]);
    assert!(payment.scenario().when(&reserved("tok_visa")).await.is_empty());
    assert_eq!(payment.gateway.statement(ORDER).await.unwrap(), None, "the gateway was not called");
}

#[tokio::test(start_paused = true)]
async fn a_refused_charge_has_nothing_to_refund() {
    let payment = Payment::new().await;
    let published = payment.scenario().given(&reserved("tok_declined")).when(&cancelled()).await;
    assert_eq!(types(&published), [("payment.refunded", true)]);
    assert_eq!(payment.ledger().await, (1, 1, 0, 0));
}

//! The inventory on the production runtime: given, when, then.

use order_flow_events::{InventoryRejected, InventoryReleased, PaymentDeclined, PaymentRefunded, Reason};
use order_flow_testing::{in_memory, item, order};
use saga_core::testing::Scenario;
use uuid::Uuid;

use super::participant;
use crate::MIGRATIONS;

const ORDER: Uuid = Uuid::from_u128(1);

fn declined() -> PaymentDeclined {
    PaymentDeclined { order_id: ORDER, reason: Reason::PaymentDeclined }
}

#[tokio::test(start_paused = true)]
async fn an_order_without_stock_is_rejected_and_has_nothing_to_compensate() {
    let db = in_memory(MIGRATIONS).await;
    let scenario = Scenario::new(participant(), db).given(&order(ORDER, [item("A", 1)]));
    let published = scenario.when(&declined()).await;
    assert_eq!(published.len(), 1);
    assert!(published[0].null_compensation, "a refused order has no reservation");
}

#[tokio::test(start_paused = true)]
async fn an_order_is_rejected_for_its_reason() {
    let db = in_memory(MIGRATIONS).await;
    let published = Scenario::new(participant(), db).when(&order(ORDER, [item("A", 1)])).await;
    let refusal = InventoryRejected { order_id: ORDER, reason: Reason::OutOfStock };
    assert_eq!(published[0].read(), Some(refusal));
}

#[tokio::test(start_paused = true)]
async fn a_compensation_that_comes_first_makes_the_order_late() {
    let db = in_memory(MIGRATIONS).await;
    let late = Scenario::new(participant(), db).given(&declined()).when(&order(ORDER, [item("A", 1)])).await;
    assert!(late.is_empty(), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_second_compensation_of_the_same_order_publishes_nothing() {
    let db = in_memory(MIGRATIONS).await;
    let refunded = PaymentRefunded { order_id: ORDER, reason: Reason::CancelledByCustomer };
    let first = Scenario::new(participant(), db.clone()).when(&refunded).await;
    assert_eq!(first[0].read(), Some(InventoryReleased { order_id: ORDER, reason: Reason::CancelledByCustomer }));
    assert!(Scenario::new(participant(), db).when(&declined()).await.is_empty());
}

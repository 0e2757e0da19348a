//! The order on the production runtime: given, when, then.

use order_flow_events::{InventoryRejected, InventoryReleased, OrderCreated, Reason, ShippingScheduled};
use saga_core::testing::Scenario;
use saga_test_support::order_flow::{in_memory, item, order};
use uuid::Uuid;

use super::*;
use crate::MIGRATIONS;

const ORDER: Uuid = Uuid::from_u128(1);
const DEADLINE: Duration = Duration::from_secs(2);

fn created() -> OrderCreated {
    order(ORDER, [item("A", 1)])
}

fn scheduled() -> ShippingScheduled {
    ShippingScheduled { order_id: ORDER, tracking_number: "TRK-1".to_owned() }
}

fn released() -> InventoryReleased {
    InventoryReleased { order_id: ORDER, reason: Reason::PaymentDeclined }
}

#[tokio::test(start_paused = true)]
async fn an_order_is_cancelled_once_by_several_events() {
    let db = in_memory(MIGRATIONS).await;
    let rejected = InventoryRejected { order_id: ORDER, reason: Reason::OutOfStock };
    let first = Scenario::new(participant(DEADLINE), db.clone()).given(&created()).when(&rejected).await;
    assert_eq!(first[0].read(), Some(OrderCancelled { order_id: ORDER, reason: Reason::OutOfStock }));
    assert!(Scenario::new(participant(DEADLINE), db).when(&released()).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_order_is_not_confirmed_any_more() {
    let db = in_memory(MIGRATIONS).await;
    let scenario = Scenario::new(participant(DEADLINE), db).given(&released()).given(&created());
    assert!(scenario.when(&scheduled()).await.is_empty());
}

//! The order on the production runtime: given, when, then.

use order_flow_events::{InventoryRejected, InventoryReleased, OrderCreated, Reason, ShippingScheduled};
use order_flow_testing::{in_memory, item, order};
use saga_core::{
    clock::Clock,
    runtime::{Handle, Options, Runtime},
    testing::{MemoryBroker, Scenario, VirtualClock},
};
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
async fn an_order_is_confirmed_when_its_parcel_is_scheduled() {
    let db = in_memory(MIGRATIONS).await;
    let published = Scenario::new(participant(DEADLINE), db).given(&created()).when(&scheduled()).await;
    assert_eq!(published.len(), 1);
    let event = OrderConfirmed { order_id: ORDER, tracking_number: "TRK-1".to_owned() };
    assert_eq!(published[0].read(), Some(event));
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

#[tokio::test(start_paused = true)]
async fn an_order_that_waits_too_long_requests_its_own_cancellation() {
    let db = in_memory(MIGRATIONS).await;
    let (broker, clock) = (MemoryBroker::new(1), VirtualClock::start());
    let participant = participant(DEADLINE);
    let consumer = broker.subscribe("order", &participant.declaration().consumed_topics());
    let handle = Handle::new("order", db, broker.producer(), clock);
    let (broker_of_test, outbox) = (broker.clone(), handle.outbox());
    let test = async move {
        let row = outbox.row(&created(), &Default::default()).unwrap();
        broker_of_test.append(row.record);
        clock.sleep(DEADLINE / 2).await;
        assert_eq!(broker_of_test.records("order.events").len(), 1, "the deadline has not passed");
        clock.sleep(DEADLINE * 2).await;
        let records = broker_of_test.records("order.events");
        let data: OrderCancellationRequested = serde_json::from_slice(records[1].value.as_deref().unwrap()).unwrap();
        assert_eq!(data, OrderCancellationRequested { order_id: ORDER, reason: Reason::Deadline });
    };
    Runtime::new(participant, handle, Options::default()).run(consumer, test).await.unwrap();
}

//! The order's steps on a real database, with their events in every possible order.

use order_flow_events::{
    InventoryRejected, InventoryReleased, OrderCancellationRequested, OrderCancelled, OrderConfirmed, OrderCreated,
    Reason, ShippingScheduled,
};
use saga_core::{Outcome, SagaId};
use saga_store::{Db, params};
use saga_test_support::order_flow::{at, in_set_step, in_step, item, on_each_database, order};
use uuid::Uuid;

use super::{cancel, confirm, expire, register};
use crate::{MIGRATIONS, NothingHeld, domain::entries, store::SELECT};

const ORDER: Uuid = Uuid::from_u128(1);

fn created(order_id: Uuid) -> OrderCreated {
    order(order_id, [item("A", 2)])
}

fn scheduled(order_id: Uuid) -> ShippingScheduled {
    ShippingScheduled { order_id, tracking_number: "TRK-1".to_owned() }
}

fn released(reason: Reason) -> NothingHeld {
    NothingHeld::Released(InventoryReleased { order_id: ORDER, reason })
}

fn rejected() -> NothingHeld {
    NothingHeld::Rejected(InventoryRejected { order_id: ORDER, reason: Reason::OutOfStock })
}

fn confirmed() -> Option<OrderConfirmed> {
    Some(OrderConfirmed { order_id: ORDER, tracking_number: "TRK-1".to_owned() })
}

fn cancelled(reason: Reason) -> Option<OrderCancelled> {
    Some(OrderCancelled { order_id: ORDER, reason })
}

fn cancellation(reason: Reason) -> Option<OrderCancellationRequested> {
    Some(OrderCancellationRequested { order_id: ORDER, reason })
}

/// The event that a step of [`ORDER`] ends in.
macro_rules! step {
    ($db:expr, register, $event:expr) => {
        event(in_step(&$db, at(7), register, [$event]).await.remove(0))
    };
    ($db:expr, $handler:expr, $event:expr) => {
        event(in_set_step(&$db, at(7), $handler, [$event]).await.remove(0))
    };
}

fn event<E>(outcome: Outcome<E>) -> Option<E> {
    match outcome {
        Outcome::Success(event) => Some(event),
        Outcome::Refused(never) => match never {},
        Outcome::Quiet | Outcome::Again { .. } => None,
    }
}

#[derive(Debug, PartialEq)]
struct Row {
    status: String,
    reason: Option<String>,
    total_cents: Option<i64>,
    history: Vec<String>,
}

fn row(status: &str, reason: Option<&str>, total_cents: Option<i64>, history: &[&str]) -> Row {
    let history = history.iter().map(|event| (*event).to_owned()).collect();
    Row { status: status.to_owned(), reason: reason.map(str::to_owned), total_cents, history }
}

async fn stored(db: &Db, order_id: Uuid) -> Row {
    let row = db.query_opt(SELECT, params![order_id]).await.unwrap().unwrap();
    let history = entries(&row.get::<String>("history").unwrap());
    Row {
        status: row.get("status").unwrap(),
        reason: row.get("reason").unwrap(),
        total_cents: row.get("total_cents").unwrap(),
        history: history.iter().map(|entry| entry.event().to_owned()).collect(),
    }
}

async fn test(test: impl AsyncFn(Db)) {
    on_each_database(MIGRATIONS, test).await;
}

#[tokio::test]
async fn an_order_is_registered_and_confirmed() {
    test(async |db| {
        assert!(step!(db, register, created(ORDER)).is_none());
        assert_eq!(stored(&db, ORDER).await, row("pending", None, Some(2000), &["order.created"]));
        assert_eq!(step!(db, confirm, scheduled(ORDER)), confirmed());
        let history = ["order.created", "shipping.scheduled", "order.confirmed"];
        assert_eq!(stored(&db, ORDER).await, row("confirmed", None, Some(2000), &history));
    })
    .await;
}

#[tokio::test]
async fn an_order_without_stock_is_cancelled_for_it() {
    test(async |db| {
        step!(db, register, created(ORDER));
        assert_eq!(step!(db, cancel, rejected()), cancelled(Reason::OutOfStock));
        let history = ["order.created", "inventory.rejected", "order.cancelled"];
        assert_eq!(stored(&db, ORDER).await, row("cancelled", Some("out_of_stock"), Some(2000), &history));
    })
    .await;
}

#[tokio::test]
async fn a_parcel_that_overtakes_its_order_confirms_it() {
    test(async |db| {
        assert_eq!(step!(db, confirm, scheduled(ORDER)), confirmed());
        let overtaken = ["shipping.scheduled", "order.confirmed"];
        assert_eq!(stored(&db, ORDER).await, row("confirmed", None, None, &overtaken));
        step!(db, register, created(ORDER));
        let history = ["shipping.scheduled", "order.confirmed", "order.created"];
        assert_eq!(stored(&db, ORDER).await, row("confirmed", None, Some(2000), &history));
        assert_eq!(step!(db, expire, SagaId::from(ORDER)), None);
    })
    .await;
}

#[tokio::test]
async fn a_compensation_that_overtakes_its_order_cancels_it() {
    test(async |db| {
        assert_eq!(step!(db, cancel, released(Reason::PaymentDeclined)), cancelled(Reason::PaymentDeclined));
        step!(db, register, created(ORDER));
        let history = ["inventory.released", "order.cancelled", "order.created"];
        assert_eq!(stored(&db, ORDER).await, row("cancelled", Some("payment_declined"), Some(2000), &history));
        assert_eq!(step!(db, confirm, scheduled(ORDER)), None);
        assert_eq!(stored(&db, ORDER).await.status, "cancelled");
    })
    .await;
}

#[tokio::test]
async fn an_order_that_is_not_confirmed_in_time_is_cancelled_for_that_reason() {
    test(async |db| {
        step!(db, register, created(ORDER));
        assert_eq!(step!(db, expire, SagaId::from(ORDER)), cancellation(Reason::Deadline));
        let history = ["order.created", "order.cancellation_requested"];
        assert_eq!(stored(&db, ORDER).await, row("cancelling", Some("deadline"), Some(2000), &history));

        assert_eq!(step!(db, expire, SagaId::from(ORDER)), None, "cancellation is requested once");
        assert_eq!(step!(db, confirm, scheduled(ORDER)), None, "it is too late");
        // Another participant's refusal was in flight: the first reason stays.
        assert_eq!(step!(db, cancel, released(Reason::PaymentDeclined)), cancelled(Reason::Deadline));
        let history = [
            "order.created",
            "order.cancellation_requested",
            "shipping.scheduled",
            "inventory.released",
            "order.cancelled",
        ];
        assert_eq!(stored(&db, ORDER).await, row("cancelled", Some("deadline"), Some(2000), &history));
    })
    .await;
}

#[tokio::test]
async fn a_confirmed_order_stays_confirmed_whatever_comes() {
    test(async |db| {
        step!(db, register, created(ORDER));
        step!(db, confirm, scheduled(ORDER));
        let before = stored(&db, ORDER).await;
        assert_eq!(step!(db, expire, SagaId::from(ORDER)), None);
        assert_eq!(step!(db, cancel, released(Reason::CancelledByCustomer)), None);
        assert_eq!(stored(&db, ORDER).await, before);
    })
    .await;
}

#[tokio::test]
async fn an_order_that_is_registered_twice_is_one_order() {
    test(async |db| {
        step!(db, register, created(ORDER));
        let before = stored(&db, ORDER).await;
        step!(db, register, created(ORDER));
        assert_eq!(stored(&db, ORDER).await, before);
    })
    .await;
}

#[tokio::test]
async fn a_batch_returns_its_outcomes_in_order() {
    test(async |db| {
        let ids = [5, 3, 4].map(Uuid::from_u128);
        in_step(&db, at(0), register, ids.map(created)).await;
        in_set_step(&db, at(1), expire, [SagaId::from(ids[1])]).await;
        let outcomes = in_set_step(&db, at(2), confirm, ids.map(scheduled)).await;
        let ends: Vec<Option<Uuid>> = outcomes.into_iter().map(|outcome| event(outcome).map(|e| e.order_id)).collect();
        assert_eq!(ends, [Some(ids[0]), None, Some(ids[2])]);
        let expired = in_set_step(&db, at(3), expire, ids.map(SagaId::from)).await;
        assert!(expired.into_iter().all(|outcome| event(outcome).is_none()));
    })
    .await;
}

//! The order's routes on a real database.

use std::time::Duration;

use axum::Router;
use jiff::Timestamp;
use order_flow_events::{InventoryRejected, Reason, ShippingScheduled};
use order_flow_testing::{Answer, at, call, in_set_step, in_step, on_each_database};
use saga_core::{
    clock::SystemClock,
    runtime::Handle,
    store::{OutboxRow, Store},
    testing::MemoryBroker,
};
use saga_store::{Db, Outbox};
use serde_json::{Value, json};
use uuid::Uuid;

use super::routes;
use crate::{
    MIGRATIONS, NothingHeld,
    handlers::{cancel, confirm, register},
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The routes of an order service, with its database.
struct Service {
    db: Db,
    routes: Router,
}

impl Service {
    fn on(db: Db) -> Self {
        let handle = Handle::new("order", db.clone(), MemoryBroker::new(1).producer(), SystemClock);
        Self { routes: routes(db.clone(), Outbox::new(db.clone(), handle.outbox())), db }
    }

    async fn post(&self, body: Value) -> Answer {
        call(&self.routes, "POST /orders", &[], body).await
    }

    async fn post_with_key(&self, key: &str, body: Value) -> Answer {
        call(&self.routes, "POST /orders", &[("idempotency-key", key)], body).await
    }

    async fn posted(&self) -> Uuid {
        self.post(body()).await.body["order_id"].as_str().unwrap().parse().unwrap()
    }

    async fn get(&self, order_id: Uuid) -> Answer {
        call(&self.routes, &format!("GET /orders/{order_id}"), &[], Value::Null).await
    }

    async fn cancel(&self, order_id: Uuid) -> Answer {
        call(&self.routes, &format!("POST /orders/{order_id}/cancel"), &[], Value::Null).await
    }

    async fn confirm(&self, order_id: Uuid) {
        let event = ShippingScheduled { order_id, tracking_number: "TRK-1".to_owned() };
        in_set_step(&self.db, at(0), confirm, [event]).await;
    }

    /// The types of the events in the outbox, in order.
    async fn outbox(&self) -> Vec<OutboxRow> {
        let places = self.db.unsent(0, Duration::ZERO, 1000).await.unwrap();
        let ids: Vec<Uuid> = places.iter().map(|place| place.id).collect();
        self.db.outbox(&ids).await.unwrap()
    }

    async fn outbox_types(&self) -> Vec<String> {
        self.outbox().await.into_iter().map(|row| row.event_type).collect()
    }
}

async fn test(test: impl AsyncFn(Service)) {
    on_each_database(MIGRATIONS, async |db| test(Service::on(db)).await).await;
}

fn body() -> Value {
    json!({
        "customer_id": "7b0c5f6e-43b5-4a3c-9f0f-3f2f7e1c9a10",
        "items": [{"sku": "SKU-1", "quantity": 2, "unit_price_cents": 1999}],
        "currency": "EUR",
        "payment_method": "tok_visa",
        "shipping_address": {
            "name": "Ada", "street": "Main Street 1", "city": "Berlin", "postal_code": "10115", "country": "DE",
        },
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut body = body();
    *body.pointer_mut(pointer).unwrap() = value;
    body
}

fn events(answer: &Answer) -> Vec<&str> {
    answer.body["history"].as_array().unwrap().iter().map(|entry| entry["event"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_order_is_accepted_shown_and_published() {
    test(async |service| {
        let answer = service.post(body()).await;
        let id = answer.body["order_id"].as_str().unwrap().to_owned();
        assert_eq!((answer.status.as_u16(), &answer.body), (202, &json!({"order_id": id, "status": "pending"})));
        assert_eq!(answer.header("location"), format!("/orders/{id}"));

        let shown = service.get(id.parse().unwrap()).await;
        let at = &shown.body["history"][0]["at"];
        assert!(at.as_str().unwrap().parse::<Timestamp>().is_ok());
        let expected = json!({
            "order_id": id, "status": "pending", "reason": null, "total_cents": 3998,
            "history": [{"event": "order.created", "at": at}],
        });
        assert_eq!((shown.status.as_u16(), &shown.body), (200, &expected));

        let outbox = service.outbox().await;
        assert_eq!(outbox.len(), 1);
        let mut data: Value = serde_json::from_slice(outbox[0].record.value.as_deref().unwrap()).unwrap();
        let (order_id, total) = (data["order_id"].take(), data["total_cents"].take());
        assert_eq!((order_id, total), (json!(id), json!(3998)));
        data.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        assert_eq!(data, body(), "the rest is the body of the request");
    })
    .await;
}

#[tokio::test]
async fn the_event_finds_the_order_that_the_request_made() {
    test(async |service| {
        let order_id = service.posted().await;
        let outbox = service.outbox().await;
        let event = serde_json::from_slice(outbox[0].record.value.as_deref().unwrap()).unwrap();
        let before = service.get(order_id).await.body;
        in_step(&service.db, at(0), register, [event]).await;
        assert_eq!(service.get(order_id).await.body, before);
    })
    .await;
}

#[tokio::test]
async fn an_order_that_breaks_a_rule_is_refused_and_nothing_is_written() {
    test(async |service| {
        let item = |sku: Value, quantity: Value, price: Value| {
            json!([{"sku": sku, "quantity": quantity, "unit_price_cents": price}])
        };
        let dear = |n: usize| json!({"sku": format!("S{n}"), "quantity": 1_000_000, "unit_price_cents": 1_000_000_000_000_i64});
        let wrong = [
            with("/items", json!([])),
            with("/items", (0..101).map(|n| json!({"sku": format!("S{n}"), "quantity": 1, "unit_price_cents": 1})).collect()),
            with("/items", json!([body()["items"][0], body()["items"][0]])),
            with("/items", (0..10).map(dear).collect()),
            with("/items", item(json!(""), json!(1), json!(1))),
            with("/items", item(json!("x".repeat(65)), json!(1), json!(1))),
            with("/items", item(json!("a\u{0}b"), json!(1), json!(1))),
            with("/items", item(json!(7), json!(1), json!(1))),
            with("/items", item(json!("A"), json!(0), json!(1))),
            with("/items", item(json!("A"), json!(-1), json!(1))),
            with("/items", item(json!("A"), json!(1_000_001), json!(1))),
            with("/items", item(json!("A"), json!(u64::MAX), json!(1))),
            with("/items", item(json!("A"), json!(1.5), json!(1))),
            with("/items", item(json!("A"), json!("1"), json!(1))),
            with("/items", item(json!("A"), json!(1), json!(-1))),
            with("/items", item(json!("A"), json!(1), json!(1_000_000_000_001_i64))),
            with("/customer_id", json!("somebody")),
            with("/currency", json!("eur")),
            with("/currency", json!("EURO")),
            with("/payment_method", json!(null)),
            with("/payment_method", json!("")),
            with("/shipping_address", json!("Berlin")),
            with("/shipping_address/country", json!("Germany")),
            with("/shipping_address/name", json!("Ada\u{0}")),
            json!([]),
            json!("order"),
        ];
        for body in wrong {
            let answer = service.post(body.clone()).await;
            assert!(answer.is_problem(422), "{body}: {answer:?}");
        }
        for field in ["customer_id", "items", "currency", "payment_method", "shipping_address"] {
            let mut body = body();
            body.as_object_mut().unwrap().remove(field);
            assert!(service.post(body).await.is_problem(422), "{field} is missing");
        }
        assert!(service.outbox().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_repeated_request_with_the_same_key_is_the_same_order() {
    test(async |service| {
        let first = service.post_with_key("k-1", body()).await;
        let again = service.post_with_key("k-1", body()).await;
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        assert_eq!(again.header("location"), first.header("location"));
        assert_ne!(service.post_with_key("k-2", body()).await.body, first.body);
        assert_ne!(service.post(body()).await.body, first.body);
        assert_eq!(service.outbox().await.len(), 3);

        // The response stays the same after the order has changed.
        let order_id = first.body["order_id"].as_str().unwrap().parse().unwrap();
        service.confirm(order_id).await;
        assert_eq!(service.post_with_key("k-1", body()).await.body, first.body);
    })
    .await;
}

#[tokio::test]
async fn the_same_key_with_another_body_is_refused() {
    test(async |service| {
        service.post_with_key("k", body()).await;
        let other = with("/items/0/quantity", json!(3));
        assert!(service.post_with_key("k", other).await.is_problem(422));
        assert_eq!(service.outbox().await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_key_of_a_refused_request_is_still_free() {
    test(async |service| {
        assert!(service.post_with_key("k", with("/items", json!([]))).await.is_problem(422));
        assert_eq!(service.post_with_key("k", body()).await.status, 202);
    })
    .await;
}

#[tokio::test]
async fn many_requests_with_one_key_at_once_make_one_order() {
    test(async |service| {
        let calls = (0..20).map(|_| service.post_with_key("k", body()));
        let answers = futures::future::join_all(calls).await;
        assert!(answers.iter().all(|a| a.status == 202 && a.body == answers[0].body), "{answers:?}");
        assert_eq!(service.outbox().await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_invalid_key_is_a_bad_request() {
    test(async |service| {
        for key in ["", "a\tb", "x".repeat(256).as_str()] {
            assert!(service.post_with_key(key, body()).await.is_problem(400), "{key:?}");
        }
        let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
        assert!(call(&service.routes, "POST /orders", &twice, body()).await.is_problem(400));
    })
    .await;
}

#[tokio::test]
async fn a_pending_order_is_cancelled_once_and_waits_for_its_compensation() {
    test(async |service| {
        let order_id = service.posted().await;
        for _ in 0..2 {
            let answer = service.cancel(order_id).await;
            assert_eq!(answer.status, 202);
            assert_eq!(answer.body, json!({"order_id": order_id, "status": "cancelling"}));
        }
        assert_eq!(service.outbox_types().await, ["order.created", "order.cancellation_requested"]);
        let shown = service.get(order_id).await;
        assert_eq!(
            (&shown.body["status"], &shown.body["reason"]),
            (&json!("cancelling"), &json!("cancelled_by_customer"))
        );
        assert_eq!(events(&shown), ["order.created", "order.cancellation_requested"]);
    })
    .await;
}

#[tokio::test]
async fn a_confirmed_order_is_not_cancelled() {
    test(async |service| {
        let order_id = service.posted().await;
        service.confirm(order_id).await;
        assert!(service.cancel(order_id).await.is_problem(409));
        assert_eq!(service.get(order_id).await.body["status"], "confirmed");
        assert_eq!(service.outbox_types().await, ["order.created"]);
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_order_is_cancelled_already() {
    test(async |service| {
        let order_id = service.posted().await;
        let event = NothingHeld::Rejected(InventoryRejected { order_id, reason: Reason::OutOfStock });
        in_set_step(&service.db, at(0), cancel, [event]).await;
        let answer = service.cancel(order_id).await;
        assert_eq!((answer.status.as_u16(), &answer.body["status"]), (200, &json!("cancelled")));
        assert_eq!(service.outbox_types().await, ["order.created"]);
    })
    .await;
}

#[tokio::test]
async fn many_cancellations_at_once_are_one() {
    test(async |service| {
        let order_id = service.posted().await;
        let answers = futures::future::join_all((0..20).map(|_| service.cancel(order_id))).await;
        assert!(answers.iter().all(|answer| answer.status == 202));
        assert_eq!(service.outbox().await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_cancellation_continues_the_orders_trace() {
    test(async |service| {
        let traced = call(&service.routes, "POST /orders", &[("traceparent", TRACE)], body()).await;
        service.cancel(traced.body["order_id"].as_str().unwrap().parse().unwrap()).await;
        for row in service.outbox().await {
            let parent = row.record.headers.iter().find(|h| h.is("traceparent")).unwrap();
            assert_eq!(parent.value.as_deref(), Some(TRACE.as_bytes()), "{}", row.event_type);
        }
    })
    .await;
}

#[tokio::test]
async fn an_unknown_order_is_not_found() {
    test(async |service| {
        assert!(service.get(Uuid::from_u128(404)).await.is_problem(404));
        assert!(service.cancel(Uuid::from_u128(404)).await.is_problem(404));
        assert!(call(&service.routes, "GET /orders/17", &[], Value::Null).await.is_problem(400));
        assert!(call(&service.routes, "POST /orders/17/cancel", &[], Value::Null).await.is_problem(400));
    })
    .await;
}

//! The whole order flow in one process and in virtual time: the four participants, driven through their routes.

#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

use std::{sync::Arc, time::Duration};

use axum::Router;
use order_flow_testing::{Answer, call, in_memory};
use payment_service::SandboxGateway;
use saga_core::testing::{Published, Running};
use saga_store::{Db, Outbox};
use serde_json::{Value, json};
use uuid::Uuid;

const STOCK: i64 = 10;

/// The routes of the four services, and the records of the broker.
struct Flow<'a> {
    routes: Router,
    running: &'a Running<Db>,
}

/// How an order ended, according to the services.
#[derive(Debug, PartialEq)]
struct End {
    status: String,
    reason: Value,
    payment: Value,
    shipment: Value,
    captured: i64,
    refunded: i64,
}

impl Flow<'_> {
    /// Runs the four participants until the test is done.
    async fn run(deadline: Duration, test: impl AsyncFn(&Flow<'_>)) {
        let gateway = Arc::new(SandboxGateway::new(in_memory(SandboxGateway::LEDGER).await));
        let order = in_memory(order_service::MIGRATIONS).await;
        let inventory = in_memory(inventory_service::MIGRATIONS).await;
        let payment = in_memory(payment_service::MIGRATIONS).await;
        let shipping = in_memory(shipping_service::MIGRATIONS).await;
        let participants = [
            (order_service::participant(deadline), order.clone()),
            (inventory_service::participant(), inventory.clone()),
            (payment_service::participant(gateway.clone()), payment.clone()),
            (shipping_service::participant(), shipping.clone()),
        ];
        let run = async |running: &Running<Db>| {
            let routes = order_service::http::routes(order.clone(), Outbox::new(order, running.outbox("order")))
                .merge(inventory_service::http::routes(inventory))
                .merge(payment_service::http::routes(payment))
                .merge(payment_service::http::sandbox_routes(gateway))
                .merge(shipping_service::http::routes(shipping));
            let flow = Flow { routes, running };
            flow.call("PUT /stock/SKU-1", json!({"quantity": STOCK})).await;
            test(&flow).await;
            flow.nothing_was_lost().await;
        };
        saga_core::testing::Flow::on(participants).run(run).await;
    }

    async fn call(&self, line: &str, body: Value) -> Answer {
        call(&self.routes, line, &[], body).await
    }

    /// Orders two pieces for 39.98.
    async fn order(&self, payment_method: &str, country: &str, sku: &str) -> Uuid {
        let body = json!({
            "customer_id": Uuid::from_u128(0xADA),
            "items": [{"sku": sku, "quantity": 2, "unit_price_cents": 1999}],
            "currency": "EUR",
            "payment_method": payment_method,
            "shipping_address": {
                "name": "Ada", "street": "Main Street 1", "city": "Berlin", "postal_code": "10115", "country": country,
            },
        });
        self.call("POST /orders", body).await.body["order_id"].as_str().unwrap().parse().unwrap()
    }

    /// Waits until the order has ended and all participants are idle.
    async fn end(&self, order_id: Uuid) -> End {
        loop {
            self.running.pass(Duration::from_millis(50)).await;
            let order = self.call(&format!("GET /orders/{order_id}"), Value::Null).await.body;
            if !self.running.is_caught_up() || !["confirmed", "cancelled"].contains(&order["status"].as_str().unwrap())
            {
                continue;
            }
            let payment = self.call(&format!("GET /payments/{order_id}"), Value::Null).await.body;
            let shipment = self.call(&format!("GET /shipments/{order_id}"), Value::Null).await.body;
            let sandbox = self.call(&format!("GET /sandbox/{order_id}"), Value::Null).await.body;
            let status = |body: &Value| if body["status"].is_string() { body["status"].clone() } else { Value::Null };
            return End {
                status: order["status"].as_str().unwrap().to_owned(),
                reason: order["reason"].clone(),
                payment: status(&payment),
                shipment: status(&shipment),
                captured: sandbox["captured_cents"].as_i64().unwrap_or(0),
                refunded: sandbox["refunded_cents"].as_i64().unwrap_or(0),
            };
        }
    }

    async fn stock(&self) -> (i64, i64) {
        let stock = self.call("GET /stock/SKU-1", Value::Null).await.body;
        (stock["available"].as_i64().unwrap(), stock["reserved"].as_i64().unwrap())
    }

    /// The types of the events of an order, sorted.
    fn events(&self, order_id: Uuid) -> Vec<String> {
        let of_order = |event: &Published| event.saga_id == order_id.to_string();
        let events = self.running.events().into_iter().filter(of_order);
        let mut types: Vec<String> = events.map(|event| event.event_type).collect();
        types.sort();
        types
    }

    async fn nothing_was_lost(&self) {
        let (available, reserved) = self.stock().await;
        assert_eq!(available + reserved, STOCK, "units are conserved");
        let letters = self.running.dead_letters();
        assert!(letters.is_empty(), "{letters:?}");
    }
}

const MINUTES: Duration = Duration::from_secs(300);

fn cancelled(reason: &str, payment: Value, shipment: Value, money: i64) -> End {
    let status = "cancelled".to_owned();
    End { status, reason: json!(reason), payment, shipment, captured: money, refunded: money }
}

#[tokio::test(start_paused = true)]
async fn an_order_without_a_refusal_is_confirmed() {
    Flow::run(MINUTES, async |flow| {
        let order_id = flow.order("tok_visa", "DE", "SKU-1").await;
        let end = flow.end(order_id).await;
        let (status, reason) = ("confirmed".to_owned(), Value::Null);
        let (payment, shipment) = (json!("charged"), json!("scheduled"));
        assert_eq!(end, End { status, reason, payment, shipment, captured: 3998, refunded: 0 });
        assert_eq!(flow.stock().await, (STOCK - 2, 2));
        let events =
            ["inventory.reserved", "order.confirmed", "order.created", "payment.charged", "shipping.scheduled"];
        assert_eq!(flow.events(order_id), events);
        let answer = flow.call(&format!("POST /orders/{order_id}/cancel"), Value::Null).await;
        assert!(answer.is_problem(409));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_any_step_compensates_the_earlier_ones_and_keeps_its_reason() {
    Flow::run(MINUTES, async |flow| {
        let none = Value::Null;
        let (declined, refunded, rejected) = (json!("declined"), json!("refunded"), json!("rejected"));
        for (payment_method, country, sku, expected) in [
            ("tok_visa", "DE", "UNKNOWN", cancelled("out_of_stock", none.clone(), none.clone(), 0)),
            ("tok_declined", "DE", "SKU-1", cancelled("payment_declined", declined.clone(), none.clone(), 0)),
            ("tok_timeout", "DE", "SKU-1", cancelled("payment_unavailable", declined.clone(), none.clone(), 0)),
            ("tok_visa", "AQ", "SKU-1", cancelled("unshippable", refunded.clone(), rejected.clone(), 3998)),
            ("tok_flaky", "AQ", "SKU-1", cancelled("unshippable", refunded.clone(), rejected.clone(), 3998)),
        ] {
            let order_id = flow.order(payment_method, country, sku).await;
            assert_eq!(flow.end(order_id).await, expected);
            assert_eq!(flow.stock().await, (STOCK, 0));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_customers_cancellation_compensates_the_order_and_keeps_its_reason() {
    Flow::run(MINUTES, async |flow| {
        // The bank does not answer, which leaves time for a cancellation.
        let order_id = flow.order("tok_timeout", "DE", "SKU-1").await;
        flow.running.pass(Duration::from_secs(1)).await;
        let path = format!("POST /orders/{order_id}/cancel");
        assert_eq!(flow.call(&path, Value::Null).await.status, 202);
        assert_eq!(flow.call(&path, Value::Null).await.status, 202);
        // The compensation of the charge does not wait for its retries: there is no payment.
        let expected = cancelled("cancelled_by_customer", Value::Null, Value::Null, 0);
        assert_eq!(flow.end(order_id).await, expected);
        assert_eq!(flow.stock().await, (STOCK, 0));
        assert_eq!(flow.call(&path, Value::Null).await.status, 200);
        let events = flow.events(order_id);
        let count = |name: &str| events.iter().filter(|event| *event == name).count();
        assert_eq!((count("order.cancellation_requested"), count("order.cancelled")), (1, 1));
        assert_eq!(count("inventory.released"), 1, "the units were released once");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_cancelled_at_once_ends_without_reservation_charge_or_shipment() {
    Flow::run(MINUTES, async |flow| {
        for _ in 0..4 {
            let order_id = flow.order("tok_visa", "DE", "SKU-1").await;
            flow.call(&format!("POST /orders/{order_id}/cancel"), Value::Null).await;
            let end = flow.end(order_id).await;
            assert_eq!((end.status.as_str(), &end.reason), ("cancelled", &json!("cancelled_by_customer")));
            assert_eq!(end.captured, end.refunded);
            assert_eq!(flow.stock().await, (STOCK, 0));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_order_that_takes_too_long_is_cancelled_by_its_deadline() {
    Flow::run(Duration::from_secs(2), async |flow| {
        let order_id = flow.order("tok_timeout", "DE", "SKU-1").await;
        assert_eq!(flow.end(order_id).await, cancelled("deadline", Value::Null, Value::Null, 0));
        assert_eq!(flow.stock().await, (STOCK, 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn exactly_as_many_orders_are_confirmed_as_the_stock_allows() {
    Flow::run(MINUTES, async |flow| {
        let orders = futures::future::join_all((0..20).map(|_| flow.order("tok_visa", "DE", "SKU-1"))).await;
        let mut confirmed = 0;
        for order_id in orders {
            let end = flow.end(order_id).await;
            confirmed += i64::from(end.status == "confirmed");
            assert!(end.status == "confirmed" || end.reason == json!("out_of_stock"), "{end:?}");
        }
        assert_eq!((confirmed, flow.stock().await), (STOCK / 2, (0, STOCK)));
    })
    .await;
}

//! The payment's routes on a real database.

use std::sync::Arc;

use order_flow_events::InventoryReserved;
use order_flow_testing::{address, at, call, in_step, on_each_database};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{routes, sandbox_routes};
use crate::{
    Gateway, MIGRATIONS, SandboxGateway,
    gateway::{Charge, Decision},
    handlers::charge,
};

#[tokio::test]
async fn a_payment_is_shown_by_its_order() {
    on_each_database(MIGRATIONS, async |db| {
        let order_id = Uuid::from_u128(1);
        let path = format!("GET /payments/{order_id}");
        let routes = routes(db.clone());
        assert!(call(&routes, &path, &[], Value::Null).await.is_problem(404));
        assert!(call(&routes, "GET /payments/17", &[], Value::Null).await.is_problem(400));

        let reserved = InventoryReserved {
            order_id,
            amount_cents: 1000,
            currency: "EUR".to_owned(),
            payment_method: "tok_visa".to_owned(),
            shipping_address: address("DE"),
        };
        in_step(
            &db,
            at(0),
            async |cx: &mut saga_core::handler::Cx<'_, saga_store::Db>, reserved| {
                charge(cx, reserved, Decision::Captured).await
            },
            [reserved],
        )
        .await;
        let shown = call(&routes, &path, &[], Value::Null).await;
        assert_eq!(shown.body, json!({"order_id": order_id, "status": "charged", "amount_cents": 1000}));
    })
    .await;
}

#[tokio::test]
async fn the_gateways_statement_is_shown_by_its_order() {
    on_each_database(SandboxGateway::LEDGER, async |db| {
        let gateway = Arc::new(SandboxGateway::new(db));
        let routes = sandbox_routes(gateway.clone());
        let (key, order_id) = (Uuid::from_u128(7), Uuid::from_u128(1));
        let path = format!("GET /sandbox/{order_id}");
        assert!(call(&routes, &path, &[], Value::Null).await.is_problem(404));

        let (currency, payment_method) = ("EUR".to_owned(), "tok_visa".to_owned());
        gateway.charge(Charge { key, order_id, amount_cents: 1000, currency, payment_method }).await.unwrap();
        let expected = json!({"calls": 1, "idempotency_keys": [key], "captured_cents": 1000, "refunded_cents": 0});
        assert_eq!(call(&routes, &path, &[], Value::Null).await.body, expected);
    })
    .await;
}

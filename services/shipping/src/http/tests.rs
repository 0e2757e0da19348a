//! Shipping's route on a real database.

use order_flow_events::PaymentCharged;
use order_flow_testing::{address, at, call, in_step, on_each_database};
use serde_json::Value;
use uuid::Uuid;

use super::routes;
use crate::{MIGRATIONS, handlers::schedule};

#[tokio::test]
async fn a_shipment_is_shown_by_its_order() {
    on_each_database(MIGRATIONS, async |db| {
        let order_id = Uuid::from_u128(1);
        let path = format!("GET /shipments/{order_id}");
        let routes = routes(db.clone());
        assert!(call(&routes, &path, &[], Value::Null).await.is_problem(404));

        let paid = PaymentCharged { order_id, shipping_address: address("DE") };
        in_step(&db, at(0), schedule, [paid]).await;
        let shown = call(&routes, &path, &[], Value::Null).await;
        assert_eq!((shown.status.as_u16(), &shown.body["status"]), (200, &"scheduled".into()));
        assert_eq!(shown.body["order_id"], order_id.to_string());
        assert!(shown.body["tracking_number"].as_str().is_some_and(|number| number.starts_with("TRK-")));
    })
    .await;
}

#[tokio::test]
async fn an_invalid_order_id_is_a_bad_request() {
    on_each_database(MIGRATIONS, async |db| {
        assert!(call(&routes(db), "GET /shipments/17", &[], Value::Null).await.is_problem(400));
    })
    .await;
}

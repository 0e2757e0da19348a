//! The inventory's routes on a real database.

use axum::Router;
use order_flow_testing::{Answer, call, on_each_database};
use saga_store::Db;
use serde_json::{Value, json};

use super::routes;
use crate::MIGRATIONS;

async fn put(routes: &Router, path: &str, body: Value) -> Answer {
    call(routes, &format!("PUT {path}"), &[], body).await
}

async fn get(routes: &Router, path: &str) -> Answer {
    call(routes, &format!("GET {path}"), &[], Value::Null).await
}

async fn test(test: impl AsyncFn(Router)) {
    on_each_database(MIGRATIONS, async |db: Db| test(routes(db)).await).await;
}

#[tokio::test]
async fn the_stock_that_was_set_is_shown() {
    test(async |routes| {
        assert!(get(&routes, "/stock/SKU-1").await.is_problem(404));
        let set = put(&routes, "/stock/SKU-1", json!({"quantity": 100})).await;
        let expected = json!({"sku": "SKU-1", "available": 100, "reserved": 0});
        assert_eq!((set.status.as_u16(), &set.body), (200, &expected));
        assert_eq!(get(&routes, "/stock/SKU-1").await.body, expected);
        let again = put(&routes, "/stock/SKU-1", json!({"quantity": 0})).await;
        assert_eq!(again.body, json!({"sku": "SKU-1", "available": 0, "reserved": 0}));
    })
    .await;
}

#[tokio::test]
async fn setting_the_stock_keeps_the_reservations() {
    on_each_database(MIGRATIONS, async |db: Db| {
        let routes = routes(db.clone());
        put(&routes, "/stock/A", json!({"quantity": 5})).await;
        let order = order_flow_testing::order(uuid::Uuid::from_u128(1), [order_flow_testing::item("A", 2)]);
        order_flow_testing::in_set_step(&db, order_flow_testing::at(0), crate::handlers::reserve, [order]).await;
        put(&routes, "/stock/A", json!({"quantity": 50})).await;
        assert_eq!(get(&routes, "/stock/A").await.body, json!({"sku": "A", "available": 50, "reserved": 2}));
    })
    .await;
}

#[tokio::test]
async fn invalid_quantities_are_refused_and_change_nothing() {
    test(async |routes| {
        for quantity in [json!(-1), json!(1_000_000_000_001_i64), json!(1e300), json!(1.5), json!("1"), json!(null)] {
            let answer = put(&routes, "/stock/A", json!({"quantity": quantity})).await;
            assert!(answer.is_problem(422), "{quantity}: {answer:?}");
        }
        assert!(put(&routes, "/stock/A", json!({})).await.is_problem(422));
        assert!(put(&routes, "/stock/A", json!([])).await.is_problem(422));
        assert!(get(&routes, "/stock/A").await.is_problem(404));
    })
    .await;
}

#[tokio::test]
async fn a_sku_has_1_to_64_characters_of_any_script() {
    test(async |routes| {
        assert!(put(&routes, &format!("/stock/{}", "x".repeat(65)), json!({"quantity": 1})).await.is_problem(422));
        assert!(put(&routes, "/stock/a%00b", json!({"quantity": 1})).await.is_problem(422));
        assert!(put(&routes, "/stock/%FF", json!({"quantity": 1})).await.is_problem(400));
        let path = format!("/stock/{}", "%C3%BC".repeat(64));
        assert_eq!(put(&routes, &path, json!({"quantity": 1})).await.status, 200);
        assert_eq!(get(&routes, &path).await.body["sku"], "ü".repeat(64));
        assert_eq!(put(&routes, "/stock/a%2Fb", json!({"quantity": 1})).await.body["sku"], "a/b");
        assert!(get(&routes, "/stock/a%00b").await.is_problem(404));
    })
    .await;
}

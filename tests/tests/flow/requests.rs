//! Requests that no service can carry out: the response is a problem document, and nothing is written.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use saga_tests::{
    Who::{self, Inventory, Order as Orders, Payment, Shipping},
    World,
    http::send,
    in_both_modes, orders,
    orders::Order,
};
use serde_json::{Value, json};
use uuid::Uuid;

in_both_modes![shared_world:
    an_order_that_breaks_a_rule_is_refused_and_nothing_is_written,
    a_body_that_is_no_json_is_refused_and_nothing_is_written,
    an_invalid_stock_is_refused_and_nothing_is_written,
    a_missing_resource_is_answered_with_a_problem,
];

async fn refused(world: &World, body: Vec<u8>, content_type: &str, wanted: &[u16]) -> Result<()> {
    let request = world.request(Orders, Method::POST, "/orders")?.header("content-type", content_type);
    let answer = send(request.body(body)).await?;
    ensure!(wanted.contains(&answer.status), "{answer:?}");
    ensure!(answer.is_problem(), "{answer:?}");
    Ok(())
}

/// A later order has ended, and none of the customer's orders has started a saga.
async fn nothing_was_written(world: &World, customer: Uuid) -> Result<()> {
    let good = world.place(&Order::of(&world.stocked(1).await?, 1)).await?;
    world.event(good, "order.confirmed").await?;
    let written = world.of_customer(customer);
    ensure!(written.is_empty(), "{written:?}");
    Ok(())
}

async fn an_order_that_breaks_a_rule_is_refused_and_nothing_is_written(world: &World) -> Result<()> {
    let order = Order::of("SKU-1", 1);
    let with = |pointer: &str, value: Value| {
        let mut body = order.body();
        if let Some(place) = body.pointer_mut(pointer) {
            *place = value;
        }
        body
    };
    let item =
        |n: usize| json!({"sku": format!("SKU-{n}"), "quantity": 1_000_000, "unit_price_cents": 1_000_000_000_000_i64});
    let (quantity, price) = ("/items/0/quantity", "/items/0/unit_price_cents");
    let mut bodies = vec![
        json!({}),
        json!([]),
        json!(null),
        json!("order"),
        with("/customer_id", json!("nobody")),
        with("/items", json!([])),
        with("/items", json!({})),
        with("/items", (0..101).map(|n| json!({"sku": n.to_string(), "quantity": 1, "unit_price_cents": 1})).collect()),
        with("/items", json!([item(1), item(1)])),
        // Each value is valid; their sum overflows.
        with("/items", (0..10).map(item).collect()),
        with("/items/0/sku", json!("")),
        with("/items/0/sku", json!("x".repeat(65))),
        with("/items/0/sku", json!("a\u{0}b")),
        with("/currency", json!("eur")),
        with("/currency", json!(978)),
        with("/payment_method", json!("tok\u{0}")),
        with("/payment_method", json!(null)),
        with("/shipping_address", json!("Berlin")),
        with("/shipping_address/country", json!("DEU")),
        with("/shipping_address/name", json!("\u{0}")),
    ];
    for wrong in
        [json!(0), json!(-1), json!(1_000_001), json!(1.5), json!("2"), json!(1e30), json!(u64::MAX), json!(null)]
    {
        bodies.push(with(quantity, wrong));
    }
    for wrong in [json!(-1), json!(1_000_000_000_001_i64), json!(0.5), json!("1"), json!(1e300), json!(i64::MIN)] {
        bodies.push(with(price, wrong));
    }
    for field in ["customer_id", "items", "currency", "payment_method", "shipping_address"] {
        let mut body = order.body();
        body.as_object_mut().context("an object")?.remove(field);
        bodies.push(body);
    }
    for body in bodies {
        let text = body.to_string();
        refused(world, text.clone().into_bytes(), "application/json", &[422]).await.context(text)?;
    }
    for key in ["", "\u{e4}", &"x".repeat(256)] {
        let request = world.request(Orders, Method::POST, "/orders")?.header("idempotency-key", key);
        let answer = send(request.json(&order.body())).await?;
        ensure!(answer.status == 400 && answer.is_problem(), "{key:?}: {answer:?}");
    }
    nothing_was_written(world, order.customer).await
}

async fn a_body_that_is_no_json_is_refused_and_nothing_is_written(world: &World) -> Result<()> {
    let order = Order::of("SKU-1", 1);
    let body = order.body().to_string().into_bytes();
    let mut not_utf_8 = body.clone();
    not_utf_8[20] = 0xff;
    let padded = |size: usize| [body.clone(), vec![b' '; size]].concat();
    let deep = |open: &str| {
        let text = String::from_utf8_lossy(&body).replacen('{', &format!("{{\"note\": {},", open.repeat(10_000)), 1);
        text.into_bytes()
    };
    refused(world, Vec::new(), "application/json", &[400]).await.context("nothing")?;
    refused(world, body[..body.len() - 1].to_vec(), "application/json", &[400]).await.context("cut")?;
    refused(world, [body.clone(), body.clone()].concat(), "application/json", &[400]).await.context("twice")?;
    refused(world, not_utf_8, "application/json", &[400]).await.context("not UTF-8")?;
    refused(world, deep("["), "application/json", &[400, 422]).await.context("deep lists")?;
    refused(world, deep("{\"a\":"), "application/json", &[400, 422]).await.context("deep objects")?;
    refused(world, "[".repeat(10_000).into_bytes(), "application/json", &[400, 422]).await.context("deep")?;
    refused(world, padded(2 << 20), "application/json", &[413]).await.context("2 MB")?;
    refused(world, padded(257 << 10), "application/json", &[413]).await.context("257 KiB")?;
    refused(world, body.clone(), "text/plain", &[415]).await.context("text")?;
    refused(world, body.clone(), "application/x-www-form-urlencoded", &[415]).await.context("a form")?;
    nothing_was_written(world, order.customer).await?;
    // The largest valid body, which shows where the limit is.
    let request = world.request(Orders, Method::POST, "/orders")?.header("content-type", "application/json");
    let answer = send(request.body(padded((256 << 10) - body.len()))).await?;
    ensure!(answer.status == 202, "{answer:?}");
    Ok(())
}

async fn an_invalid_stock_is_refused_and_nothing_is_written(world: &World) -> Result<()> {
    let sku = orders::sku();
    let wrong = [
        json!({}),
        json!(null),
        json!([1]),
        json!({"quantity": -1}),
        json!({"quantity": 1.5}),
        json!({"quantity": "9"}),
    ];
    let more = [json!({"quantity": u64::MAX}), json!({"quantity": i64::MAX}), json!({"quantity": i64::MIN})];
    for body in wrong.into_iter().chain(more) {
        let answer = send(world.request(Inventory, Method::PUT, &format!("/stock/{sku}"))?.json(&body)).await?;
        ensure!(answer.status == 422 && answer.is_problem(), "{body}: {answer:?}");
    }
    for sku in ["x".repeat(65), "a%00b".to_owned(), "%FF".to_owned()] {
        let request = world.request(Inventory, Method::PUT, &format!("/stock/{sku}"))?;
        let answer = send(request.json(&json!({"quantity": 1}))).await?;
        ensure!((400..500).contains(&answer.status) && answer.is_problem(), "{sku}: {answer:?}");
    }
    ensure!(world.units(&sku).await.is_err(), "stock was written");
    // Zero is a valid quantity, and reserved units stay reserved.
    world.stock(&sku, 0).await?;
    ensure!(world.units(&sku).await? == (0, 0));
    Ok(())
}

async fn a_missing_resource_is_answered_with_a_problem(world: &World) -> Result<()> {
    let unknown = Uuid::new_v4();
    let mut asked: Vec<(Who, Method, String, &[u16])> = vec![
        (Orders, Method::POST, format!("/orders/{unknown}/cancel"), &[404]),
        (Orders, Method::POST, "/orders/7/cancel".to_owned(), &[400, 404, 422]),
        (Orders, Method::DELETE, format!("/orders/{unknown}"), &[405]),
        (Orders, Method::GET, "/orders".to_owned(), &[405]),
        (Inventory, Method::POST, "/stock/SKU-1".to_owned(), &[405]),
        (Inventory, Method::GET, format!("/stock/{unknown}"), &[404]),
    ];
    for (who, path) in [(Orders, "orders"), (Payment, "payments"), (Payment, "sandbox"), (Shipping, "shipments")] {
        asked.push((who, Method::GET, format!("/{path}/{unknown}"), &[404]));
        asked.push((who, Method::GET, format!("/{path}/not-a-uuid"), &[400, 404, 422]));
        asked.push((who, Method::GET, format!("/{path}/%FF"), &[400, 404, 422]));
        asked.push((who, Method::GET, "/nowhere".to_owned(), &[404]));
    }
    for (who, method, path, wanted) in asked {
        let answer = send(world.request(who, method.clone(), &path)?).await?;
        ensure!(wanted.contains(&answer.status) && answer.is_problem(), "{who}: {method} {path}: {answer:?}");
    }
    for who in Who::ALL {
        let (live, ready) = (world.get(who, "/livez").await?, world.get(who, "/readyz").await?);
        ensure!(live.status == 200, "{live:?}");
        ensure!(ready.status == 200 && ready.body == json!({"ready": true, "waiting_for": []}), "{ready:?}");
        ensure!(world.metric(who, "saga_events_published_total", "").await? >= 0.0);
    }
    Ok(())
}

//! Requests that no service can carry out: the response is a problem document, and nothing is written.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use saga_test_support::{
    end_to_end::{
        Who::{self, Inventory, Order as Orders, Payment, Shipping},
        World,
        http::send,
        orders::Order,
    },
    in_both_modes,
};
use serde_json::json;
use uuid::Uuid;

in_both_modes![shared_world:
    a_body_that_is_no_json_is_refused_and_nothing_is_written,
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
    // The rules of an order are tested where they stand; that a broken one writes nothing is tested here.
    let beyond = Order::of("SKU-1", -1).body().to_string().into_bytes();
    refused(world, beyond, "application/json", &[422]).await.context("a rule")?;
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

async fn a_missing_resource_is_answered_with_a_problem(world: &World) -> Result<()> {
    let nobody = Uuid::new_v4();
    let mut asked: Vec<(Who, Method, String, &[u16])> = vec![
        (Orders, Method::POST, format!("/orders/{nobody}/cancel"), &[404]),
        (Orders, Method::POST, "/orders/7/cancel".to_owned(), &[400, 404, 422]),
        (Orders, Method::DELETE, format!("/orders/{nobody}"), &[405]),
        (Orders, Method::GET, "/orders".to_owned(), &[405]),
        (Inventory, Method::POST, "/stock/SKU-1".to_owned(), &[405]),
        (Inventory, Method::GET, format!("/stock/{nobody}"), &[404]),
    ];
    for (who, path) in [(Orders, "orders"), (Payment, "payments"), (Payment, "sandbox"), (Shipping, "shipments")] {
        asked.push((who, Method::GET, format!("/{path}/{nobody}"), &[404]));
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

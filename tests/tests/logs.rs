//! The services' logs: one JSON object per line, with saga and trace, and without data of an event.

use anyhow::{Context, Result, ensure};
use saga_tests::{PATIENCE, Who, World, eventually, in_both_modes, orders, orders::Order, orders::with_header};
use serde_json::Value;
use uuid::Uuid;

in_both_modes![own_world:
    every_log_line_about_an_event_names_its_saga_and_trace,
    no_log_line_contains_data_of_an_event,
];

async fn restart(world: &World, variables: &[(&str, &str)]) -> Result<()> {
    for who in Who::ALL {
        world.terminate(who, 0).await?;
        world.launch(who, 0, variables).await?;
    }
    for who in Who::ALL {
        world.ready(who).await?;
    }
    Ok(())
}

fn lines(world: &World) -> Result<Vec<Value>> {
    world.logs()?.iter().map(|line| serde_json::from_str(line).with_context(|| line.clone())).collect()
}

async fn every_log_line_about_an_event_names_its_saga_and_trace(world: &World) -> Result<()> {
    let id = Uuid::new_v4();
    let order = Order::of(&world.stocked(10).await?, 1).paid_by("tok_flaky");
    let trace = Uuid::new_v4().simple().to_string();
    let record = orders::event("order.created", id, &order.created(id));
    world.produce(with_header(record, "traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))).await?;
    world.event(id, "order.confirmed").await?;
    eventually(PATIENCE, "the log reports a failed attempt", async || {
        let lines = lines(world)?;
        let reports =
            |line: &&Value| line["saga_id"] == id.to_string() && line["message"] == "parked for another attempt";
        let line = lines.iter().find(reports).context("it does not")?;
        ensure!(line["trace_id"] == trace && line["service"] == "payment" && line["step"] == "charge", "{line}");
        ensure!(line["level"] == "WARN" && line["timestamp"].is_string() && line["target"].is_string(), "{line}");
        Ok(())
    })
    .await?;
    // An unreadable record has a saga too, if its key names one.
    let poison = Uuid::new_v4();
    let mut record = orders::event("order.created", poison, &Value::Null);
    record.value = Some(b"{".to_vec());
    world.produce(with_header(record, "traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))).await?;
    eventually(PATIENCE, "two services report a dead letter", async || {
        let lines = lines(world)?;
        let dead =
            lines.iter().filter(|line| line["message"] == "dead letter" && line["saga_id"] == poison.to_string());
        let dead = dead.filter(|line| line["trace_id"] == trace).count();
        ensure!(dead == 2, "{dead}");
        Ok(())
    })
    .await?;
    for line in lines(world)? {
        let is_about_an_event = ["step", "event_id", "offset"].iter().any(|field| !line[field].is_null());
        let ours = line["target"].as_str().is_some_and(|target| target.starts_with("saga_core"));
        ensure!(!ours || !is_about_an_event || line["saga_id"].is_string(), "{line}");
        let of_these = [id, poison].iter().any(|id| line["saga_id"] == id.to_string());
        ensure!(!of_these || line["trace_id"] == trace, "{line}");
    }
    Ok(())
}

async fn no_log_line_contains_data_of_an_event(world: &World) -> Result<()> {
    let libraries = ["saga_core", "saga_kafka", "saga_store", "saga_service"].map(str::to_owned);
    let services = Who::ALL.map(|who| format!("{who}_service"));
    let ours = libraries.iter().chain(&services);
    let filter = ours.fold("info".to_owned(), |filter, name| format!("{filter},{name}=trace"));
    restart(world, &[("RUST_LOG", &filter)]).await?;
    let sku = world.stocked(10).await?;
    let mut orders =
        vec![Order::of(&sku, 1), Order::of(&sku, 1).shipped_to("AQ"), Order::of(&sku, 1).paid_by("tok_flaky")];
    orders.push(Order::of(&sku, 1).paid_by("tok_declined"));
    for order in &orders {
        let id = world.place(order).await?;
        eventually(PATIENCE, "the order ends", async || {
            let status = world.status(id).await?;
            ensure!(status == "confirmed" || status == "cancelled", "{status}");
            Ok(())
        })
        .await?;
    }
    // An unreadable record is logged too: the reason must not quote it.
    let id = Uuid::new_v4();
    let mut broken = orders[0].created(id);
    broken["items"][0]["quantity"] = Value::from("tok_secret");
    world.produce(orders::event("order.created", id, &broken)).await?;
    let mut text = orders::event("order.created", id, &Value::Null);
    text.value = Some(b"{\"shipping_address\": Main Street tok_secret".to_vec());
    world.produce(text).await?;
    eventually(PATIENCE, "the dead letters are logged", async || {
        let lines = lines(world)?;
        let dead = lines.iter().filter(|line| line["message"] == "dead letter").count();
        ensure!(dead >= 4, "{dead} dead letters");
        Ok(())
    })
    .await?;
    let customer = orders[0].customer.to_string();
    for line in world.logs()? {
        for data in ["Main Street", "10115", "Ada\"", "tok_secret", "tok_visa", "tok_declined", customer.as_str()] {
            ensure!(!line.contains(data), "{data} is in the log: {line}");
        }
    }
    restart(world, &[]).await
}

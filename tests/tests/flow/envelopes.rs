//! The envelope of an event: the headers of the contract, and the attributes that foreign programs may omit.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use saga_core::record::Header;
use saga_tests::{
    Seen, Who, World,
    http::{accepted, send},
    in_both_modes,
    orders::{Order, event, with_header},
};
use serde_json::json;
use uuid::Uuid;

in_both_modes![shared_world:
    every_record_of_a_saga_has_the_headers_of_the_contract,
    the_trace_of_the_request_is_passed_on_to_every_record_of_the_saga,
    an_order_in_binary_mode_needs_no_more_than_a_type_and_a_key,
    an_order_in_structured_mode_is_read_as_well,
    an_order_of_a_javascript_program_is_read_as_its_schema_says,
    unknown_fields_and_headers_are_ignored,
];

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn is_in_order(seen: &Seen, saga: Uuid) -> Result<()> {
    let header = |name: &str| seen.header(name).with_context(|| format!("{} has no {name}", seen.event_type));
    let source = format!("/{}", seen.event_type.split('.').next().unwrap_or_default());
    ensure!(header("ce_specversion")? == "1.0");
    ensure!(Uuid::try_parse(&header("ce_id")?).is_ok(), "{}", header("ce_id")?);
    ensure!(header("ce_source")? == source, "{}", header("ce_source")?);
    ensure!(header("ce_subject")? == saga.to_string() && header("ce_correlationid")? == saga.to_string());
    ensure!(header("ce_dataschema")? == format!("/schemas/{}/1", seen.event_type), "{}", header("ce_dataschema")?);
    ensure!(header("content-type")? == "application/json", "{}", header("content-type")?);
    let time = header("ce_time")?;
    ensure!(time.len() >= 20 && time.as_bytes()[10] == b'T' && time.ends_with('Z'), "{time}");
    ensure!(*seen.record.topic == *format!("{}.events", &source[1..]), "{}", seen.record.topic);
    ensure!(seen.data["order_id"] == saga.to_string(), "{}", seen.data);
    let mut names: Vec<_> = seen.record.headers.iter().map(|header| header.name.clone()).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    ensure!(names.len() == all, "a header twice: {:?}", seen.record.headers);
    Ok(())
}

async fn every_record_of_a_saga_has_the_headers_of_the_contract(world: &World) -> Result<()> {
    let sku = world.stocked(5).await?;
    let sold = world.place(&Order::of(&sku, 1)).await?;
    let compensated = world.place(&Order::of(&sku, 1).shipped_to("AQ")).await?;
    world.event(sold, "order.confirmed").await?;
    world.event(compensated, "order.cancelled").await?;
    for saga in [sold, compensated] {
        let history = world.history(saga);
        let partition = world.event(saga, "order.created").await?.place().partition;
        for seen in &history {
            is_in_order(seen, saga)?;
            ensure!(seen.place().partition == partition, "{} is on another partition", seen.event_type);
            let cause = seen.header("ce_causationid");
            match seen.event_type.as_str() {
                "order.created" => ensure!(cause.is_none(), "{cause:?}"),
                _ => ensure!(history.iter().any(|other| Some(&other.id) == cause.as_ref()), "{cause:?}"),
            }
            ensure!(!seen.is_null_compensation());
        }
        ensure!(history.len() >= 5, "{:?}", world.types(saga));
    }
    for refusal in ["shipping.rejected", "payment.refunded", "inventory.released", "order.cancelled"] {
        let seen = world.event(compensated, refusal).await?;
        ensure!(seen.data["reason"] == "unshippable", "{}", seen.data);
    }
    let mut created = world.event(sold, "order.created").await?.data;
    ensure!(created["total_cents"] == 1999, "{created}");
    created["total_cents"].take();
    ensure!(created["items"] == json!([{"sku": sku, "quantity": 1, "unit_price_cents": 1999}]), "{created}");
    Ok(())
}

async fn the_trace_of_the_request_is_passed_on_to_every_record_of_the_saga(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(5).await?, 1).shipped_to("AQ");
    let request = world.request(Who::Order, Method::POST, "/orders")?.json(&order.body());
    let request = request.header("traceparent", TRACEPARENT).header("tracestate", "vendor=1");
    let id = accepted(&send(request).await?)?;
    world.event(id, "order.cancelled").await?;
    for seen in world.history(id) {
        let trace = (seen.header("traceparent"), seen.header("tracestate"));
        ensure!(trace == (Some(TRACEPARENT.into()), Some("vendor=1".into())), "{}: {trace:?}", seen.event_type);
    }
    Ok(())
}

async fn an_order_in_binary_mode_needs_no_more_than_a_type_and_a_key(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(5).await?, 1);
    let id = Uuid::new_v4();
    let place = world.produce(event("order.created", id, &order.created(id))).await?;
    world.event(id, "order.confirmed").await?;
    let reserved = world.event(id, "inventory.reserved").await?;
    let stand_in = format!("{}/{}/{}", place.topic, place.partition, place.offset);
    ensure!(reserved.cause() == stand_in, "{}", reserved.cause());
    is_in_order(&reserved, id)?;
    let shown = world.order(id).await?;
    ensure!(shown["status"] == "confirmed" && shown["total_cents"] == order.total_cents(), "{shown}");
    Ok(())
}

async fn an_order_in_structured_mode_is_read_as_well(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(5).await?, 1);
    let id = Uuid::new_v4();
    let mut record = event("order.created", id, &json!(null));
    record.headers = vec![
        Header::text("Content-Type", "application/CloudEvents+json; charset=UTF-8"),
        Header::text("traceparent", TRACEPARENT),
    ];
    let cloud_event = json!({
        "specversion": "1.0", "id": "7", "source": "/website", "type": "order.created", "time": "2030-01-01T00:00:00Z",
        "datacontenttype": "application/json", "dataschema": "https://example.com/schemas/order.created/1",
        "subject": id, "data": order.created(id),
    });
    record.value = Some(cloud_event.to_string().into_bytes());
    world.produce(record).await?;
    world.event(id, "order.confirmed").await?;
    let reserved = world.event(id, "inventory.reserved").await?;
    ensure!(reserved.cause() == "7", "{}", reserved.cause());
    ensure!(reserved.header("traceparent").as_deref() == Some(TRACEPARENT), "{reserved:?}");
    is_in_order(&reserved, id)
}

/// An SDK that encodes data as base64, and a language in which 1 and 1.0 are the same.
async fn an_order_of_a_javascript_program_is_read_as_its_schema_says(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(5).await?, 1);
    let id = Uuid::new_v4();
    let mut data = order.created(id);
    data["total_cents"] = json!(1999.0);
    data["items"][0]["quantity"] = json!(1.0);
    let mut record = event("order.created", id, &json!(null));
    record.headers = vec![Header::text("content-type", "application/cloudevents+json")];
    let cloud_event = json!({
        "specversion": "1.0", "id": "8", "source": "/website", "type": "order.created", "traceparent": TRACEPARENT,
        "datacontenttype": "application/json", "data_base64": base64(data.to_string().as_bytes()),
    });
    record.value = Some(cloud_event.to_string().into_bytes());
    world.produce(record).await?;
    world.event(id, "order.confirmed").await?;
    let reserved = world.event(id, "inventory.reserved").await?;
    ensure!(reserved.header("traceparent").as_deref() == Some(TRACEPARENT), "{reserved:?}");
    ensure!(world.letters_of(id).is_empty());
    Ok(())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |three: &[u8]| {
        let bits = three.iter().fold(0, |bits: usize, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        let text = (0..4).map(move |i| char::from(DIGITS[bits >> (18 - 6 * i) & 63]));
        text.take(three.len() + 1).chain(std::iter::repeat_n('=', 3 - three.len())).collect::<String>()
    };
    bytes.chunks(3).map(digits).collect()
}

async fn unknown_fields_and_headers_are_ignored(world: &World) -> Result<()> {
    let order = Order::of(&world.stocked(5).await?, 1);
    let id = Uuid::new_v4();
    let mut data = order.created(id);
    data["gift_wrap"] = json!({"colour": "red"});
    let record = with_header(event("order.created", id, &data), "ce_partitionkey", "x");
    // An order with a broken trace context is handled, and so is one with a header without a value.
    let mut record = with_header(record, "traceparent", "nonsense");
    record.headers.push(Header { name: b"empty".into(), value: None });
    world.produce(record).await?;
    world.event(id, "order.confirmed").await?;
    ensure!(world.event(id, "inventory.reserved").await?.header("traceparent").is_none());
    ensure!(world.letters_of(id).is_empty());
    Ok(())
}

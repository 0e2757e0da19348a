//! Records that can never be handled: each is dead-lettered, and the partition moves on.

use std::borrow::Cow;

use anyhow::{Context, Result, ensure};
use saga_core::record::{Header, OutRecord};
use saga_tests::{
    Place,
    Who::{self, Inventory, Order as Orders, Payment, Shipping},
    World, in_both_modes,
    orders::{Order, event, with_header},
    records::header,
};
use serde_json::{Value, json};
use uuid::Uuid;

in_both_modes![shared_world:
    a_record_that_cannot_be_read_is_dead_lettered_with_its_bytes_and_the_reason,
    data_against_the_rules_is_dead_lettered_by_its_consumers,
    a_type_without_a_consumer_is_passed_over_and_counted,
];

/// A record, the services that dead-letter it, and the reason.
type Case = (&'static str, OutRecord, &'static [Who], &'static str);

const CONSUMERS: &[Who] = &[Orders, Inventory];
/// All services that read `order.events`.
const READERS: &[Who] = &[Orders, Inventory, Shipping];

/// A valid `order.created` with one defect.
fn spoilt(how: impl FnOnce(&mut OutRecord)) -> OutRecord {
    let id = Uuid::new_v4();
    let mut record = event("order.created", id, &Order::of("SKU-1", 1).created(id));
    how(&mut record);
    record
}

fn with_value(value: impl Into<Vec<u8>>) -> OutRecord {
    spoilt(|record| record.value = Some(value.into()))
}

fn with(name: &'static str, value: impl Into<String>) -> OutRecord {
    with_header(spoilt(|_| ()), name, value)
}

/// Writes the key in capitals, which UUIDs may have and keys of sagas must not.
fn respelled(record: &mut OutRecord) {
    record.key.iter_mut().for_each(|key| key.make_ascii_uppercase());
}

fn unreadable() -> Vec<Case> {
    let odd_name = Header { name: Cow::Borrowed(b"\xff\xfe"), value: Some(b"x".to_vec()) };
    let odd_value = Header { name: Cow::Borrowed(b"ce_source"), value: Some(vec![0xff]) };
    let structured = || Header::text("content-type", "application/cloudevents+json");
    vec![
        ("garbage", with_value([0, 159, 146, 150]), CONSUMERS, "undecodable"),
        ("no type", spoilt(|r| r.headers.clear()), READERS, "missing_type"),
        ("an empty type", spoilt(|r| r.headers = vec![Header::text("ce_type", "")]), READERS, "missing_type"),
        ("a later version", with("ce_dataschema", "/schemas/order.created/2"), CONSUMERS, "unsupported_version"),
        ("a version that is none", with("ce_dataschema", "/schemas/order.created/x"), CONSUMERS, "unsupported_version"),
        ("wrong JSON", with_value("{\"order_id\": 1}"), CONSUMERS, "undecodable"),
        ("JSON that ends early", with_value("{\"order_id\""), CONSUMERS, "undecodable"),
        ("deep JSON", with_value("[".repeat(10_000)), CONSUMERS, "undecodable"),
        ("no key", spoilt(|r| r.key = None), CONSUMERS, "missing_key"),
        ("an empty key", spoilt(|r| r.key = Some(Vec::new())), CONSUMERS, "missing_key"),
        (
            "the key of another saga",
            spoilt(|r| r.key = Some(Uuid::new_v4().to_string().into())),
            CONSUMERS,
            "key_mismatch",
        ),
        ("a key that is no saga", spoilt(|r| r.key = Some(b"order 7".to_vec())), CONSUMERS, "key_mismatch"),
        ("a key in capitals", spoilt(respelled), CONSUMERS, "key_mismatch"),
        ("a header name that is not UTF-8", spoilt(|r| r.headers.push(odd_name)), CONSUMERS, "undecodable"),
        ("an attribute that is not UTF-8", spoilt(|r| r.headers.push(odd_value)), CONSUMERS, "undecodable"),
        ("a header twice", with_header(with("ce_id", "1"), "ce_id", "2"), CONSUMERS, "invalid"),
        ("two types", with("ce_type", "order.created"), READERS, "invalid"),
        ("another CloudEvents", with("ce_specversion", "0.3"), CONSUMERS, "invalid"),
        ("a long id", with("ce_id", "x".repeat(600)), CONSUMERS, "invalid"),
        ("an id with NUL", with("ce_id", "a\0b"), CONSUMERS, "invalid"),
        ("no value", spoilt(|r| r.value = None), CONSUMERS, "undecodable"),
        ("900 kB of nothing", with_value(vec![b'x'; 900 * 1024]), CONSUMERS, "undecodable"),
        ("structured mode without an event", spoilt(|r| r.headers = vec![structured()]), READERS, "missing_type"),
        (
            "structured mode without JSON",
            spoilt(|r| (r.headers, r.value) = (vec![structured()], Some(b"no".to_vec()))),
            READERS,
            "undecodable",
        ),
    ]
}

/// An event of the saga with this data.
fn fact(event_type: &str, data: impl FnOnce(Uuid) -> Value) -> OutRecord {
    let id = Uuid::new_v4();
    event(event_type, id, &data(id))
}

fn against_the_rules() -> Vec<Case> {
    let created = |change: fn(&mut Value)| {
        fact("order.created", |id| {
            let mut data = Order::of("SKU-1", 1).created(id);
            change(&mut data);
            data
        })
    };
    let negative = |id| {
        let mut data = Order::of("SKU-1", 1).reserved(id);
        data["amount_cents"] = json!(-1);
        data
    };
    let text = "Not a word";
    vec![
        ("a wrong total", created(|data| data["total_cents"] = json!(1)), CONSUMERS, "invalid"),
        ("no items", created(|data| data["items"] = json!([])), CONSUMERS, "invalid"),
        ("a negative quantity", created(|data| data["items"][0]["quantity"] = json!(-1)), CONSUMERS, "invalid"),
        (
            "a quantity that fits nowhere",
            created(|data| data["items"][0]["quantity"] = json!(1e300)),
            CONSUMERS,
            "undecodable",
        ),
        ("a part of an item", created(|data| data["items"][0]["quantity"] = json!(1.5)), CONSUMERS, "undecodable"),
        (
            "an order's id in capitals",
            created(|data| data["order_id"] = data["order_id"].as_str().map(str::to_uppercase).into()),
            CONSUMERS,
            "key_mismatch",
        ),
        ("NUL in a name", created(|data| data["shipping_address"]["name"] = json!("a\0")), CONSUMERS, "invalid"),
        ("a negative amount", fact("inventory.reserved", negative), &[Payment], "invalid"),
        ("no address", fact("payment.charged", |id| json!({"order_id": id})), &[Shipping], "undecodable"),
        (
            "a reason that is none",
            fact("payment.declined", |id| json!({"order_id": id, "reason": text})),
            &[Inventory],
            "undecodable",
        ),
        ("no tracking number", fact("shipping.scheduled", |id| json!({"order_id": id})), &[Orders], "undecodable"),
        ("no reason", fact("shipping.rejected", |id| json!({"order_id": id})), &[Payment], "undecodable"),
        (
            "a list of the fields",
            fact("order.cancellation_requested", |id| json!([id, "deadline"])),
            &[Shipping],
            "undecodable",
        ),
        ("an empty list", fact("order.cancellation_requested", |_| json!([])), &[Shipping], "undecodable"),
    ]
}

/// The dead letter is the original record, and says which service dead-lettered it, where it was, when and why.
fn is_letter(world: &World, who: Who, record: &OutRecord, place: &Place, reason: &str) -> Result<()> {
    let letters = world.letters(who, place);
    ensure!(letters.len() == 1, "{} dead letters of {who}", letters.len());
    let letter = &letters[0];
    let keyless = record.key.as_deref().unwrap_or_default().is_empty();
    ensure!(letter.key.as_deref().unwrap_or_default() == record.key.as_deref().unwrap_or_default(), "{letter:?}");
    ensure!(letter.value == record.value, "the value has changed");
    ensure!(letter.headers.starts_with(&record.headers), "{:?}", letter.headers);
    ensure!(keyless || letter.partition == place.partition, "another partition");
    let says = |name: &str| header(letter, name).with_context(|| format!("no {name}"));
    ensure!(says("error.type")? == reason, "{} instead of {reason}", says("error.type")?);
    ensure!(says("__dlq.errors.group")? == who.name() && says("attempts")? == "1");
    let (message, at) = (says("__dlq.errors.message")?, says("first_failed_at")?);
    ensure!(!message.is_empty() && message.len() <= 1024, "{message}");
    ensure!(at.contains('T') && at.ends_with('Z'), "{at}");
    Ok(())
}

/// Produces all records, waits until every reader of their topics has passed them, and checks the dead letters.
async fn are_dead_lettered(world: &World, cases: Vec<Case>) -> Result<()> {
    let produce = async |(what, record, consumers, reason): Case| -> Result<_> {
        let place = world.produce(record.clone()).await.context(what)?;
        // Later records in the same partition are not delayed.
        for who in consumers {
            world.done(*who, &place).await.context(what)?;
        }
        Ok((what, record, consumers, reason, place))
    };
    let produced = futures::future::try_join_all(cases.into_iter().map(produce)).await?;
    for (what, record, consumers, reason, place) in &produced {
        for who in Who::ALL {
            if consumers.contains(&who) {
                saga_tests::eventually(saga_tests::PATIENCE, what, async || {
                    is_letter(world, who, record, place, reason)
                })
                .await?;
            } else {
                ensure!(world.letters(who, place).is_empty(), "{what}: a dead letter of {who}");
            }
        }
        let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
        if let Some(saga) = key.and_then(|key| key.parse().ok().filter(|saga: &Uuid| saga.to_string() == key)) {
            ensure!(world.history(saga).len() == 1, "{what}: {:?}", world.types(saga));
        }
    }
    ensure!(world.panics()?.is_empty(), "{:?}", world.panics());
    Ok(())
}

async fn a_record_that_cannot_be_read_is_dead_lettered_with_its_bytes_and_the_reason(world: &World) -> Result<()> {
    are_dead_lettered(world, unreadable()).await?;
    // Every partition still moves on.
    let sku = world.stocked(100).await?;
    let order = Order::of(&sku, 1);
    let ids = futures::future::try_join_all((0..12).map(|_| world.place(&order))).await?;
    for id in ids {
        world.event(id, "order.confirmed").await?;
    }
    Ok(())
}

async fn data_against_the_rules_is_dead_lettered_by_its_consumers(world: &World) -> Result<()> {
    are_dead_lettered(world, against_the_rules()).await
}

async fn a_type_without_a_consumer_is_passed_over_and_counted(world: &World) -> Result<()> {
    let counted = async |who| world.metric(who, "saga_events_passed_over_total", "").await;
    let id = Uuid::new_v4();
    for who in READERS {
        let before = counted(*who).await?;
        // Other errors in the record do not concern services that do not consume its type.
        let record = with_header(event("order.archived", id, &json!([])), "ce_dataschema", "/schemas/order.archived/9");
        let place = world.produce(record).await?;
        world.done(*who, &place).await?;
        ensure!(counted(*who).await? >= before + 1.0, "{who} has not counted it");
        ensure!(world.letters(*who, &place).is_empty(), "a dead letter of {who}");
    }
    Ok(())
}

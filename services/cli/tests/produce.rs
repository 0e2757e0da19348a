//! `saga produce` against a broker: what it publishes, and what it refuses to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    io::Write,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use saga_core::{
    Trigger, envelope,
    record::Record,
    transport::{Consumer, Signal},
};
use saga_kafka::{EmbeddedBroker, KafkaConsumer};
use saga_test_support::proxy::Proxy;

use order_flow_events::OrderCreated;

fn broker() -> EmbeddedBroker {
    EmbeddedBroker::start(&["order.events"], 3).unwrap()
}

fn saga(broker: &EmbeddedBroker, args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_saga"));
    command.args(args).env("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn published(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn records(broker: &EmbeddedBroker, wanted: usize) -> Vec<Record> {
    let mut consumer = KafkaConsumer::subscribe(&broker.config(), "test", &["order.events".to_owned()]).unwrap();
    let mut records = Vec::new();
    let all = async {
        while records.len() < wanted {
            if let Signal::Records(more) = consumer.next(100).await {
                records.extend(more);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.unwrap();
    records
}

#[tokio::test]
async fn an_order_from_flags_arrives_as_any_consumer_expects_it() {
    let broker = broker();
    let args = ["produce", "order.created", "--sku", "SKU-7", "--quantity", "2", "--country", "AQ", "--json"];
    let printed = published(&saga(&broker, &args, ""));

    let record = &records(&broker, 1).await[0];
    let (envelope, data) = envelope::open(record).unwrap().envelope().unwrap();
    assert_eq!(printed["order_id"], envelope.saga_id.to_string());
    assert_eq!(printed["event_id"], envelope.event_id);
    let order = <OrderCreated as Trigger>::decode(&envelope.event_type, envelope.version, &data).unwrap();
    assert_eq!((order.items[0].sku.as_str(), order.total_cents), ("SKU-7", 3998));
    assert_eq!(order.shipping_address.country, "AQ");
}

#[tokio::test]
async fn any_event_is_read_from_standard_input() {
    let broker = broker();
    let data = r#"{"order_id": "00000000-0000-0000-0000-000000000007", "reason": "deadline", "note": "kept"}"#;
    let args = ["produce", "order.cancelled", "--file", "-", "--json"];
    assert_eq!(published(&saga(&broker, &args, data))["topic"], "order.events");

    let record = &records(&broker, 1).await[0];
    assert_eq!(record.key.as_deref(), Some(b"00000000-0000-0000-0000-000000000007".as_slice()));
    let sent: serde_json::Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
    assert_eq!(sent["note"], "kept");
}

#[test]
fn what_does_not_fit_is_not_published_and_the_field_is_named() {
    let broker = broker();
    let message = refused(&saga(&broker, &["produce", "order.created", "--quantity", "0"], ""));
    assert!(message.contains("items[0].quantity"), "{message}");
    let message = refused(&saga(&broker, &["produce", "order.cancelled"], ""));
    assert!(message.contains("\"reason\" is a required property"), "{message}");
    let message = refused(&saga(&broker, &["produce", "order.cancelled", "--sku", "SKU-1"], ""));
    assert!(message.contains("--data"), "{message}");
}

#[test]
fn a_missing_topic_is_said_to_be_missing() {
    let broker = EmbeddedBroker::start(&["elsewhere"], 1).unwrap();
    let args = ["produce", "order.created", "--kafka-cfg", "topic.metadata.propagation.max.ms=500", "--timeout", "20"];
    let message = refused(&saga(&broker, &args, ""));
    assert!(message.contains("order.events"), "{message}");
}

#[test]
fn a_broker_that_is_away_is_named_within_seconds_and_nothing_is_published() {
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_saga"));
    let output = command.args(["produce", "order.created"]).env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1").output();
    let message = refused(&output.unwrap());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}: {message}", begun.elapsed());
    for text in ["was not published", "--bootstrap-servers", "127.0.0.1:1"] {
        assert!(message.contains(text), "{text} is not in {message}");
    }
}

/// A broker that is reachable only after some seconds, behind a port that accepts and says nothing until then.
#[tokio::test]
async fn the_time_of_an_event_is_that_of_its_publication_not_of_the_first_try_to_connect() {
    let broker = broker();
    let proxy = Proxy::to(broker.bootstrap_servers()).await.unwrap();
    proxy.freeze();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_saga"));
    command.args(["produce", "order.created", "--json"]);
    command.env("KAFKA_BOOTSTRAP_SERVERS", proxy.addr().to_string());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    proxy.connected().await;
    let opened = jiff::Timestamp::now();
    proxy.open();
    published(&child.wait_with_output().await.unwrap());
    let record = &records(&broker, 1).await[0];
    let (envelope, _) = envelope::open(record).unwrap().envelope().unwrap();
    assert!(envelope.time.unwrap() >= opened, "{:?} is before {opened}", envelope.time);
}

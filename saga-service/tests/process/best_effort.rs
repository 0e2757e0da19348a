//! Several events from one step and compensations that fail for good, on Kafka and PostgreSQL, in a process that is killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::{Duration, Instant},
};

use saga_core::{Namespace, envelope, record::TopicPartition};
use saga_kafka::{KafkaConfig, Publisher, Reader};
use saga_store::Db;
use uuid::Uuid;

use crate::{
    child::{Probe, example},
    common::ferry::{Booked, Cancelled},
};

/// Longer than a rebalance after a process was killed.
const PATIENCE: Duration = Duration::from_secs(60);
const TRIPS: i64 = 150;

#[tokio::test]
async fn several_events_and_failed_compensations_survive_kill_9_and_happen_once() {
    let (Some(kafka), Some(postgres)) = (saga_test_support::servers::kafka(), saga_test_support::servers::postgres())
    else {
        return;
    };
    // A namespace is short.
    let namespace: Namespace = format!("f{}", &Uuid::new_v4().simple().to_string()[..12]).parse().unwrap();
    let schema = namespace.schema("ferry");
    let start = || {
        let name = namespace.to_string();
        let variables = [
            ("DATABASE_URL", &*postgres),
            ("KAFKA_BOOTSTRAP_SERVERS", &*kafka),
            ("SAGA_NAMESPACE", &*name),
            // Its partitions come back at once when it starts again.
            ("SAGA_INSTANCE_ID", "one"),
            ("SAGA_TOPIC_PARTITIONS", "1"),
            ("RUST_LOG", "error"),
        ];
        let mut command = example("ferry", &variables);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Probe::spawn(command)
    };
    let mut process = start();
    let db = Db::connect(postgres.parse().unwrap(), &schema, &[]).await.unwrap();
    let publisher = Publisher::new(&KafkaConfig::new(&kafka), "test").unwrap().in_namespace(namespace.clone());
    let count = async |sql: &'static str| -> i64 { db.query_opt(sql, []).await.unwrap().unwrap().get(0).unwrap() };
    let reaches = async |what: &str, sql: &'static str, wanted: i64| {
        let begun = Instant::now();
        while count(sql).await < wanted {
            assert!(begun.elapsed() < PATIENCE, "{what}: {} of {wanted}", count(sql).await);
            tokio::task::yield_now().await;
        }
    };
    const DONE: &str = "SELECT count(*) FROM ran WHERE what IN ('take', 'order')";
    const CLOSED: &str = "SELECT count(*) FROM ran WHERE what = 'close'";

    let trips: Vec<Uuid> = (0..TRIPS).map(|_| Uuid::now_v7()).collect();
    let booked: Vec<Booked> = trips.iter().map(|id| Booked { id: *id }).collect();
    publisher.publish_all(&booked).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    reaches("some cabins and meals", DONE, TRIPS / 2).await;
    process.signal("-KILL");
    drop(process);
    process = start();
    reaches("every cabin and every meal", DONE, 2 * TRIPS).await;

    let cancelled: Vec<Cancelled> = trips.iter().map(|id| Cancelled { id: *id }).collect();
    publisher.publish_all(&cancelled).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    reaches("some trips are closed", CLOSED, TRIPS / 3).await;
    process.signal("-KILL");
    drop(process);
    process = start();
    reaches("every trip is closed", CLOSED, TRIPS).await;
    reaches("every end", "SELECT count(*) FROM saga_progress WHERE ended_at IS NOT NULL", TRIPS).await;
    reaches("nothing is left to publish", "SELECT CASE WHEN EXISTS (SELECT FROM saga_outbox) THEN 0 ELSE 1 END", 1)
        .await;

    assert_eq!(count("SELECT count(*) FROM ran").await, 5 * TRIPS, "plan, take, order, cancel and close, once each");
    assert_eq!(count("SELECT count(*) FROM saga_failed_compensation").await, TRIPS);
    assert_eq!(count("SELECT count(*) FROM saga_parked").await, 0, "a failed compensation blocks no saga");
    drop(process);

    // What Kafka has: each event under one id, and the mark from the failed compensation to the end.
    let topic: std::sync::Arc<str> = namespace.of("ferry.events").into();
    let published = tokio::task::spawn_blocking(move || {
        let mut reader = Reader::of_the_past(&KafkaConfig::new(&kafka)).unwrap();
        reader.add(&[TopicPartition { topic, partition: 0 }], None).unwrap();
        let mut ids = BTreeMap::<(String, bool), BTreeSet<String>>::new();
        while let Some(stored) = reader.next(PATIENCE, |_, _| true).unwrap() {
            let text = |name| {
                let header = stored.record.headers.iter().find(|header| header.is(name)).and_then(|h| h.value.clone());
                header.map(|value| String::from_utf8(value).unwrap()).unwrap_or_default()
            };
            let marked = text(envelope::header::PARTLY_COMPENSATED) == "true";
            ids.entry((text(envelope::header::TYPE), marked)).or_default().insert(text(envelope::header::ID));
        }
        ids
    });
    let published: Vec<_> = published.await.unwrap().into_iter().map(|(key, ids)| (key, ids.len() as i64)).collect();
    let expected = [
        ("cabin.freed", true),
        ("cabin.taken", false),
        ("cabin.wanted", false),
        ("ferry.closed", true),
        ("meal.cancelled", false),
        ("meal.ordered", false),
        ("meal.wanted", false),
    ];
    assert_eq!(published, expected.map(|(name, marked)| ((name.to_owned(), marked), TRIPS)));
    db.query(format!("DROP SCHEMA \"{schema}\" CASCADE").leak(), []).await.unwrap();
}

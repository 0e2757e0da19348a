//! Several events from one step and compensations that fail for good, on Kafka and PostgreSQL, in a process that is killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use saga_core::{envelope, record::TopicPartition};
use saga_kafka::{KafkaConfig, Reader};
use uuid::Uuid;

use crate::{
    common::ferry::{Booked, Cancelled},
    live::{Live, PATIENCE},
};

const TRIPS: i64 = 150;

#[tokio::test]
async fn several_events_and_failed_compensations_survive_kill_9_and_happen_once() {
    let Some(live) = Live::new("ferry").await else { return };
    let mut process = live.start("one");
    const DONE: &str = "SELECT count(*) FROM ran WHERE what IN ('take', 'order')";
    const CLOSED: &str = "SELECT count(*) FROM ran WHERE what = 'close'";

    let trips: Vec<Uuid> = (0..TRIPS).map(|_| Uuid::now_v7()).collect();
    let booked: Vec<Booked> = trips.iter().map(|id| Booked { id: *id }).collect();
    live.publish(&booked).await;
    live.reaches("some cabins and meals", DONE, TRIPS / 2).await;
    process.signal("-KILL");
    drop(process);
    process = live.start("one");
    live.reaches("every cabin and every meal", DONE, 2 * TRIPS).await;

    let cancelled: Vec<Cancelled> = trips.iter().map(|id| Cancelled { id: *id }).collect();
    live.publish(&cancelled).await;
    live.reaches("some trips are closed", CLOSED, TRIPS / 3).await;
    process.signal("-KILL");
    drop(process);
    process = live.start("one");
    live.reaches("every trip is closed", CLOSED, TRIPS).await;
    live.reaches("every end", "SELECT count(*) FROM saga_progress WHERE ended_at IS NOT NULL", TRIPS).await;
    live.reaches(
        "nothing is left to publish",
        "SELECT CASE WHEN EXISTS (SELECT FROM saga_outbox) THEN 0 ELSE 1 END",
        1,
    )
    .await;

    assert_eq!(
        live.count("SELECT count(*) FROM ran").await,
        5 * TRIPS,
        "plan, take, order, cancel and close, once each"
    );
    assert_eq!(live.count("SELECT count(*) FROM saga_failed_compensation").await, TRIPS);
    assert_eq!(live.count("SELECT count(*) FROM saga_parked").await, 0, "a failed compensation blocks no saga");
    drop(process);

    // What Kafka has: each event under one id, and the mark from the failed compensation to the end.
    let (topic, kafka): (Arc<str>, _) = (live.namespace.of("ferry.events").into(), live.kafka.clone());
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
    live.drop_schema().await;
}

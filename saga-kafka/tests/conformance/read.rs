//! Looking at topics from outside.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use saga_core::{record::TopicPartition, transport::Producer as _};
use saga_kafka::{Reader, Stored, partition_of};

use crate::support::{Fixture, PATIENCE, record, unique};

fn places(topic: &str, partitions: i32) -> Vec<TopicPartition> {
    let topic: Arc<str> = topic.into();
    (0..partitions).map(|partition| TopicPartition { topic: topic.clone(), partition }).collect()
}

fn all(reader: &mut Reader) -> Vec<Stored> {
    let (mut records, begun) = (Vec::new(), Instant::now());
    while !reader.has_caught_up() {
        assert!(begun.elapsed() < PATIENCE);
        records.extend(reader.next(Duration::from_millis(100), |_, _| true).unwrap());
    }
    records
}

fn values(records: &[Stored]) -> Vec<String> {
    records.iter().map(|s| String::from_utf8_lossy(s.record.value.as_deref().unwrap()).into_owned()).collect()
}

/// One after the other, so that their times differ.
async fn publish(fixture: &Fixture, topic: &str, numbers: std::ops::Range<usize>) {
    let producer = fixture.producer();
    for number in numbers {
        let record = record(topic, &format!("key-{number}"), number.to_string());
        assert_eq!(producer.publish(vec![record]).await, [Ok(())]);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) async fn the_past_is_read_in_the_order_of_time_and_ends(fixture: Fixture) {
    let topic = fixture.topic(5).await;
    publish(&fixture, &topic, 0..40).await;
    let mut reader = Reader::of_the_past(&fixture.config).unwrap();
    assert_eq!(reader.partitions(&topic).unwrap(), Some(5));
    reader.add(&places(&topic, 5), None).unwrap();
    publish(&fixture, &topic, 40..45).await;
    let records = all(&mut reader);
    assert_eq!(values(&records), (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(reader.progress(), (40, 40));
    assert!(records.iter().all(|s| partition_of(s.record.key.as_deref().unwrap(), 5) == s.record.partition));
}

pub(crate) async fn only_what_was_written_since_a_time_is_read(fixture: Fixture) {
    let topic = fixture.topic(3).await;
    publish(&fixture, &topic, 0..10).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let since = Timestamp::now();
    tokio::time::sleep(Duration::from_millis(5)).await;
    publish(&fixture, &topic, 10..13).await;
    let mut reader = Reader::of_the_past(&fixture.config).unwrap();
    reader.add(&places(&topic, 3), Some(since)).unwrap();
    assert_eq!(values(&all(&mut reader)), ["10", "11", "12"]);
    let mut reader = Reader::of_the_past(&fixture.config).unwrap();
    reader.add(&places(&topic, 3), Some(Timestamp::now())).unwrap();
    assert!(all(&mut reader).is_empty());
}

pub(crate) async fn only_wanted_keys_are_read(fixture: Fixture) {
    let topic = fixture.topic(3).await;
    publish(&fixture, &topic, 0..10).await;
    let mut reader = Reader::of_the_past(&fixture.config).unwrap();
    reader.add(&places(&topic, 3), None).unwrap();
    let mut found = Vec::new();
    while !reader.has_caught_up() {
        found.extend(reader.next(PATIENCE, |_, key| key == Some(b"key-7")).unwrap());
    }
    assert_eq!(values(&found), ["7"]);
}

pub(crate) async fn what_arrives_is_followed(fixture: Fixture) {
    let (topic, later) = (fixture.topic(3).await, fixture.topic(1).await);
    publish(&fixture, &topic, 0..3).await;
    let mut reader = Reader::following(&fixture.config).unwrap();
    reader.add(&places(&topic, 3), None).unwrap();
    let mut records = all(&mut reader);
    publish(&fixture, &topic, 3..6).await;
    publish(&fixture, &later, 6..7).await;
    reader.add(&places(&later, 1), None).unwrap();
    while records.len() < 7 {
        records.push(reader.next(PATIENCE, |_, _| true).unwrap().unwrap());
    }
    assert_eq!(values(&records)[..3], ["0", "1", "2"]);
    let mut rest = values(&records)[3..].to_vec();
    rest.sort();
    assert_eq!(rest, ["3", "4", "5", "6"]);
    assert_eq!(reader.trouble(), None);
}

pub(crate) async fn a_missing_topic_is_missing_and_stays_so(fixture: Fixture) {
    let reader = Reader::of_the_past(&fixture.config).unwrap();
    let topic = unique("missing");
    assert_eq!((reader.partitions(&topic), reader.partitions(&topic)), (Ok(None), Ok(None)));
}

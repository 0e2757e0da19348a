//! Logs that are not what they were: topics that are made anew, records that are deleted unread.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};
use saga_core::{
    record::TopicPartition,
    transport::{Consumer as _, Producer as _},
};
use saga_kafka::{TopicSpec, delete_topics, ensure_topics};
use saga_test_support::wait_until;

use crate::support::{Fixture, PATIENCE, reader::Reader, record, unique};

fn partition(topic: &str) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition: 0 }
}

async fn publish(fixture: &Fixture, topic: &str, values: &[String]) {
    let records = values.iter().map(|value| record(topic, "key", value.as_str())).collect();
    // A topic that was just made may be unknown to a part of the broker.
    let published = fixture.producer().publish(records).await;
    assert!(published.iter().all(Result::is_ok), "{published:?}");
}

fn values(what: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{what} {i}")).collect()
}

/// Deletes the topic and makes it again under the same name.
async fn make_anew(fixture: &Fixture, topic: &str) {
    delete_topics(&fixture.config, &[topic]).await.unwrap();
    let (spec, started) = (TopicSpec::events(topic, 1, None), Instant::now());
    loop {
        assert!(started.elapsed() < PATIENCE, "{topic} is not made anew");
        match ensure_topics(&fixture.config, std::slice::from_ref(&spec)).await {
            Ok(found) if !found.created.is_empty() => return,
            // Still there, or being deleted.
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Commits this offset as an operator's tool does.
async fn commit(fixture: &Fixture, group: &str, topic: &str, offset: i64) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", fixture.config.bootstrap_servers()).set("group.id", group);
    let topic = topic.to_owned();
    let commit = move || {
        let client: BaseConsumer = config.create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Offset(offset)).unwrap();
        client.commit(&list, CommitMode::Sync).unwrap();
    };
    tokio::task::spawn_blocking(commit).await.unwrap();
}

async fn delete_records(fixture: &Fixture, topic: &str, before: i64) {
    let mut config = ClientConfig::new();
    let admin: AdminClient<DefaultClientContext> =
        config.set("bootstrap.servers", fixture.config.bootstrap_servers()).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(before)).unwrap();
    let deleted = admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
    assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "{deleted:?}");
}

fn is_read(reader: &Reader, expected: &[String]) -> bool {
    reader.values().ends_with(expected)
}

pub(crate) async fn a_topic_made_anew_while_it_is_read_is_read_from_its_start(fixture: Fixture) {
    let (topic, group) = (fixture.topic(1).await, unique("group"));
    publish(&fixture, &topic, &values("old", 10)).await;
    let mut reader = fixture.consumer(&group, &[&topic]);
    reader.read(10).await;
    make_anew(&fixture, &topic).await;
    // More than there were: by its offsets alone it could be the old one.
    let new = values("new", 25);
    publish(&fixture, &topic, &new).await;
    // Under way when it was deleted: these offsets are of the old topic.
    reader.store();
    reader.until("the new topic", |reader| is_read(reader, &new)).await;
    assert!(reader.revoked.contains(&partition(&topic)), "to the runtime it is another assignment");
    assert_eq!(reader.consumer.metrics().resets(), [(partition(&topic), 1)]);
    let read = reader.records.len();
    reader.records.drain(..read - 25);
    reader.records.truncate(20);
    reader.store();
    reader.close().await;
    assert_eq!(fixture.committed(&group, &topic).await, 20, "less than was committed of the old one");
    let mut second = fixture.consumer(&group, &[&topic]);
    assert_eq!(second.read(5).await.len(), 5);
    assert_eq!(second.values(), new[20..]);
    second.close().await;
}

pub(crate) async fn a_commit_that_lands_in_a_topic_made_anew_loses_none_of_its_records(fixture: Fixture) {
    let (topic, group) = (fixture.topic(1).await, unique("group"));
    publish(&fixture, &topic, &values("old", 10)).await;
    let mut reader = fixture.consumer(&group, &[&topic]);
    reader.read(10).await;
    make_anew(&fixture, &topic).await;
    let new = values("new", 25);
    publish(&fixture, &topic, &new).await;
    reader.store();
    // At once: what is committed is the old topic's position, under the new one's name.
    reader.close().await;
    let mut second = fixture.consumer(&group, &[&topic]);
    second.until("all of the new topic", |reader| is_read(reader, &new)).await;
    assert_eq!(second.records.len(), 25);
    second.store();
    second.close().await;
    assert_eq!(fixture.committed(&group, &topic).await, 25);
}

pub(crate) async fn a_position_beyond_the_end_begins_at_the_start_and_is_committed(fixture: Fixture) {
    let (topic, group) = (fixture.topic(1).await, unique("group"));
    let new = values("new", 7);
    publish(&fixture, &topic, &new).await;
    commit(&fixture, &group, &topic, 93).await;
    let mut reader = fixture.consumer(&group, &[&topic]);
    reader.until("all records", |reader| is_read(reader, &new)).await;
    assert_eq!(reader.consumer.metrics().resets(), [(partition(&topic), 1)]);
    assert_eq!(reader.consumer.metrics().records_lost(), [(partition(&topic), 0)]);
    reader.records.truncate(3);
    reader.store();
    reader.close().await;
    assert_eq!(fixture.committed(&group, &topic).await, 3);
}

pub(crate) async fn records_deleted_while_nobody_read_are_counted(fixture: Fixture) {
    let (topic, group) = (fixture.topic(1).await, unique("group"));
    publish(&fixture, &topic, &values("record", 20)).await;
    let mut first = fixture.consumer(&group, &[&topic]);
    first.read(20).await;
    first.records.truncate(5);
    first.store();
    first.close().await;
    delete_records(&fixture, &topic, 12).await;
    let mut second = fixture.consumer(&group, &[&topic]);
    second.read(8).await;
    let lost = |reader: &Reader| reader.consumer.metrics().records_lost();
    assert_eq!(lost(&second), [(partition(&topic), 7)]);
    // All that is left goes, with nothing behind it to be read.
    second.consumer.pause(&[partition(&topic)], true);
    publish(&fixture, &topic, &values("later", 10)).await;
    delete_records(&fixture, &topic, 30).await;
    second.consumer.pause(&[partition(&topic)], false);
    wait_until("they are missed", || lost(&second)[0].1 > 7).await;
    assert_eq!(lost(&second), [(partition(&topic), 17)]);
    second.close().await;
}

pub(crate) async fn records_deleted_after_they_were_read_are_not_missed(fixture: Fixture) {
    let (topic, group) = (fixture.topic(1).await, unique("group"));
    let mut reader = fixture.consumer(&group, &[&topic]);
    publish(&fixture, &topic, &values("record", 20)).await;
    reader.read(20).await;
    delete_records(&fixture, &topic, 20).await;
    publish(&fixture, &topic, &values("later", 1)).await;
    reader.read(21).await;
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_secs(3) {
        reader.step(10, Duration::from_millis(100)).await;
    }
    assert_eq!(reader.consumer.metrics().records_lost(), [(partition(&topic), 0)]);
    reader.close().await;
}

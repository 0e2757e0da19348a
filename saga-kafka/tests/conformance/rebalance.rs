//! Members that come, go, and get in each other's way.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use saga_core::{
    record::TopicPartition,
    transport::{Consumer as _, Producer as _, Signal},
};
use saga_kafka::KafkaConsumer;

use crate::support::{Fixture, PATIENCE, reader::Reader, record, unique};

pub(crate) async fn members_share_the_partitions_and_nothing_is_lost(fixture: Fixture) {
    let (topic, group) = (fixture.topic(4).await, unique("group"));
    let producer = fixture.producer();
    let publish = |numbers: std::ops::Range<usize>| {
        let count = numbers.len();
        let published = producer.publish(numbers.map(|i| record(&topic, &format!("{i}"), format!("{i}"))).collect());
        async move { assert_eq!(published.await, vec![Ok(()); count]) }
    };
    let mut first = fixture.consumer(&group, &[&topic]);
    first.until("all partitions", |reader| reader.assigned.len() == 4).await;
    publish(0..400).await;
    first.read(400).await;
    first.store();

    let mut second = fixture.consumer(&group, &[&topic]);
    let shared = async {
        let started = Instant::now();
        while first.assigned.len() != 2 || second.assigned.len() != 2 {
            assert!(started.elapsed() < PATIENCE, "{:?} and {:?}", first.assigned, second.assigned);
            first.step(1_000, Duration::from_millis(10)).await;
            second.step(1_000, Duration::from_millis(10)).await;
        }
    };
    shared.await;
    // The first has stored all that it read, so nothing is read twice.
    publish(400..800).await;
    let started = Instant::now();
    while first.records.len() + second.records.len() < 800 {
        assert!(started.elapsed() < PATIENCE, "{} and {}", first.records.len(), second.records.len());
        first.step(1_000, Duration::from_millis(10)).await;
        second.step(1_000, Duration::from_millis(10)).await;
    }
    second.store();
    let read_by_second = second.values();
    second.close().await;

    first.until("all partitions again", |reader| reader.assigned.len() == 4).await;
    publish(800..1_000).await;
    let all = |reader: &Reader| reader.values().into_iter().chain(read_by_second.clone()).collect::<Vec<_>>();
    first.until("all records", |reader| all(reader).into_iter().collect::<BTreeSet<_>>().len() == 1_000).await;
    // The embedded broker takes no commits while members join; what was not committed then comes twice.
    if fixture.embedded.is_none() {
        assert_eq!(all(&first).len(), 1_000);
    }
    first.close().await;
}

pub(crate) async fn a_rebalance_waits_for_the_guard_and_commits_what_it_stored(fixture: Fixture) {
    let (topic, group) = (fixture.topic(2).await, unique("group"));
    let records: Vec<_> = (0..100).map(|i| record(&topic, &format!("{i}"), format!("{i}"))).collect();
    assert_eq!(fixture.producer().publish(records).await, vec![Ok(()); 100]);
    let mut first = fixture.consumer(&group, &[&topic]);
    first.read(100).await;

    let mut second = fixture.consumer(&group, &[&topic]);
    // Taken by hand: the guard is held, and the offsets are stored while it is.
    let (partitions, guard) = loop {
        match tokio::time::timeout(PATIENCE, first.consumer.next(10)).await.unwrap() {
            Signal::Revoked(partitions, guard) => break (partitions, guard),
            other => assert!(!matches!(other, Signal::Records(_)), "{other:?}"),
        }
    };
    assert_eq!(partitions.len(), 1);
    let held = Instant::now();
    while held.elapsed() < Duration::from_secs(2) {
        second.step(10, Duration::from_millis(50)).await;
        assert!(!second.assigned.contains(&partitions[0]), "given away after {:?}", held.elapsed());
    }
    first.store();
    drop(guard);
    second.until("the partition", |reader| reader.assigned.contains(&partitions[0])).await;
    // All of its records were done: none is read again. The embedded broker takes no commits while members join.
    if fixture.embedded.is_none() {
        second.step(10, Duration::from_secs(1)).await;
        assert_eq!(second.records, []);
    }
    first.close().await;
    second.close().await;
}

pub(crate) async fn no_record_of_a_revoked_partition_is_delivered(fixture: Fixture) {
    let (topic, group) = (fixture.topic(2).await, unique("group"));
    let records: Vec<_> = (0..2_000).map(|i| record(&topic, &format!("{i}"), format!("{i}"))).collect();
    assert_eq!(fixture.producer().publish(records).await, vec![Ok(()); 2_000]);
    let mut first = fixture.consumer(&group, &[&topic]);
    saga_test_support::wait_until("all records are buffered", || first.consumer.buffered() == 2_000).await;
    let second = fixture.consumer(&group, &[&topic]);
    // Without room, while the second joins.
    let started = Instant::now();
    while first.revoked.is_empty() {
        assert!(started.elapsed() < PATIENCE);
        first.step(0, Duration::from_millis(50)).await;
    }
    let buffered = first.consumer.buffered();
    assert!((500..1_500).contains(&buffered), "{buffered}");
    // The reader checks that each record's partition is its own.
    first.read(buffered).await;
    second.close().await;
    first.close().await;
}

pub(crate) async fn an_offset_of_a_partition_that_went_is_ignored_and_counted(fixture: Fixture) {
    let topic = fixture.topic(1).await;
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    reader.until("the partition", |reader| reader.assigned.len() == 1).await;
    let partition = |partition| TopicPartition { topic: topic.as_str().into(), partition };
    reader.consumer.store_offsets(&[(partition(0), 0), (partition(7), 3)]);
    assert_eq!(reader.consumer.metrics().stale_offsets(), 1);
    reader.close().await;
}

pub(crate) async fn a_second_process_with_the_same_instance_id_is_noticed(fixture: Fixture) {
    let (topic, group) = (fixture.topic(1).await, unique("group"));
    let config = fixture.config.clone().with_instance_id(Some("a".into()));
    let consumer = || KafkaConsumer::subscribe(&config, &group, std::slice::from_ref(&topic)).unwrap();
    let mut first = Reader::new(consumer());
    first.until("the partition", |reader| reader.assigned.len() == 1).await;
    let mut second = Reader::new(consumer());
    first.until("the partition goes", |reader| reader.assigned.is_empty()).await;
    first.until("the reason", |reader| reader.waiting().is_some_and(|why| why.contains("SAGA_INSTANCE_ID (a)"))).await;
    second.until("the partition", |reader| reader.assigned.len() == 1).await;
    // They take it from each other until one of them has had enough. The other keeps it.
    let started = Instant::now();
    while first.fatal.is_none() && second.fatal.is_none() {
        assert!(started.elapsed() < Duration::from_secs(90));
        first.step(10, Duration::from_millis(50)).await;
        second.step(10, Duration::from_millis(50)).await;
    }
    eprintln!("given up after {:?}", started.elapsed());
    let (loser, mut winner) = if first.fatal.is_some() { (first, second) } else { (second, first) };
    assert!(loser.fatal.unwrap().contains("SAGA_INSTANCE_ID"));
    assert_eq!(loser.consumer.metrics().fenced(), 5);
    loser.consumer.close().await;
    winner.until("the partition", |reader| reader.assigned.len() == 1 && reader.waiting().is_none()).await;
    assert_eq!(winner.fatal, None);
    winner.close().await;
}

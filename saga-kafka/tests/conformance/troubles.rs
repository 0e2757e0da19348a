//! What others do to a consumer: it is told, and never silent.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use saga_core::{record::TopicPartition, transport::Producer as _};
use saga_kafka::{ReadError, Reader, TopicSpec, delete_topics};

use crate::support::{Fixture, PATIENCE, lags, reader, record, unique};

/// A step now and then: while nothing is said, statistics come nevertheless.
async fn until(reader: &mut reader::Reader, what: &str, condition: impl Fn(&reader::Reader) -> bool) {
    let started = Instant::now();
    while !condition(reader) {
        assert!(started.elapsed() < PATIENCE, "{what}: {:?}", reader.health);
        reader.step(100, Duration::from_millis(100)).await;
    }
}

pub(crate) async fn a_topic_that_is_read_and_deleted_is_named_and_made_anew_it_is_read(fixture: Fixture) {
    let (topic, other) = (fixture.topic(1).await, fixture.topic(1).await);
    let mut reader = fixture.consumer(&unique("group"), &[&topic, &other]);
    assert_eq!(fixture.producer().publish(vec![record(&topic, "k", "old")]).await, [Ok(())]);
    reader.read(1).await;
    delete_topics(&fixture.config, &[&topic]).await.unwrap();
    let gone = format!("topic {topic} does not exist");
    until(&mut reader, "it is missed", |reader| reader.waiting() == Some(&gone)).await;
    fixture.ensure(&TopicSpec::events(&topic, 1, None)).await;
    assert_eq!(fixture.producer().publish(vec![record(&topic, "k", "new")]).await, [Ok(())]);
    let is_read = |reader: &reader::Reader| reader.values().last().map(String::as_str) == Some("new");
    until(&mut reader, "it is read", |reader| is_read(reader) && reader.waiting().is_none()).await;
    reader.close().await;
}

pub(crate) async fn a_group_that_has_another_strategy_is_told(fixture: Fixture) {
    let (topic, group) = (fixture.topic(1).await, unique("group"));
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", fixture.config.bootstrap_servers()).set("group.id", &group);
    config.set("partition.assignment.strategy", "range");
    let (stop, joined) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let member = {
        let (stop, joined, topic) = (stop.clone(), joined.clone(), topic.clone());
        tokio::task::spawn_blocking(move || {
            let member: BaseConsumer = config.create().unwrap();
            member.subscribe(&[&topic]).unwrap();
            while !stop.load(Relaxed) {
                member.poll(Duration::from_millis(50));
                joined.store(member.assignment().is_ok_and(|list| list.count() == 1), Relaxed);
            }
        })
    };
    saga_test_support::wait_until("the other has joined", || joined.load(Relaxed)).await;
    let mut reader = fixture.consumer(&group, &[&topic]);
    let is_told = |reader: &reader::Reader| reader.waiting().is_some_and(|why| why.contains("assignment.strategy"));
    until(&mut reader, "it cannot join", is_told).await;
    assert!(reader.consumer.metrics().errors()[1].1 > 0, "{:?}", reader.consumer.metrics().errors());
    stop.store(true, Relaxed);
    member.await.unwrap();
    until(&mut reader, "it has joined", |reader| reader.waiting().is_none() && reader.assigned.len() == 1).await;
    reader.close().await;
}

pub(crate) async fn an_open_transaction_is_told_and_is_lag(fixture: Fixture) {
    let topic = fixture.topic(1).await;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", fixture.config.bootstrap_servers()).set("transactional.id", unique("producer"));
    let written = topic.clone();
    let begin = move || {
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(Duration::from_secs(30)).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::to(&written).key("k").payload("held")).map_err(|(error, _)| error).unwrap();
        producer.flush(Duration::from_secs(30)).unwrap();
        producer
    };
    let transaction = tokio::task::spawn_blocking(begin).await.unwrap();
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    assert_eq!(fixture.producer().publish(vec![record(&topic, "k", "behind")]).await, [Ok(())]);
    let is_told = |reader: &reader::Reader| reader.waiting().is_some_and(|why| why.contains("open transaction"));
    until(&mut reader, "it is held back", is_told).await;
    let partition = TopicPartition { topic: topic.as_str().into(), partition: 0 };
    assert_eq!(lags(&reader.consumer.metrics()), [(partition, 2)]);
    assert_eq!(reader.records, []);
    tokio::task::spawn_blocking(move || transaction.commit_transaction(Duration::from_secs(30)).unwrap())
        .await
        .unwrap();
    until(&mut reader, "all is well", |reader| reader.waiting().is_none() && reader.records.len() == 2).await;
    reader.close().await;
}

/// Writes a batch in a codec that nobody has, as a newer producer might.
fn write_unreadable(broker: &str, topic: &str) {
    let mut batch = Vec::new();
    // Attributes: codec 5. Then last offset delta, base and greatest time, producer, epoch, sequence, records.
    batch.extend([0, 5]);
    batch.extend(0_i32.to_be_bytes());
    batch.extend([0; 16]);
    batch.extend([0xff; 14]);
    batch.extend(1_i32.to_be_bytes());
    batch.extend(b"nobody can read this");
    let mut records = Vec::new();
    records.extend(0_i64.to_be_bytes());
    records.extend((batch.len() as i32 + 9).to_be_bytes());
    records.extend((-1_i32).to_be_bytes());
    records.push(2);
    records.extend(crc32c(&batch).to_be_bytes());
    records.extend(batch);
    let mut request = Vec::new();
    // Produce, version 3; correlation id, no client id, no transaction, acks of one, ten seconds; one topic, one partition.
    request.extend([0, 0, 0, 3, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff, 0, 1]);
    request.extend(10_000_i32.to_be_bytes());
    request.extend(1_i32.to_be_bytes());
    request.extend((topic.len() as i16).to_be_bytes());
    request.extend(topic.as_bytes());
    request.extend([0, 0, 0, 1, 0, 0, 0, 0]);
    request.extend((records.len() as i32).to_be_bytes());
    request.extend(records);
    let mut stream = TcpStream::connect(broker).unwrap();
    stream.write_all(&(request.len() as i32).to_be_bytes()).unwrap();
    stream.write_all(&request).unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[4..], [0, 0, 0, 7]);
}

/// Castagnoli's, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_cannot_be_read_are_told_and_counted() {
    let fixture = Fixture::embedded();
    let topic = fixture.topic(1).await;
    write_unreadable(fixture.config.bootstrap_servers(), &topic);
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    let is_told = |reader: &reader::Reader| reader.waiting().is_some_and(|why| why.contains("cannot be read"));
    until(&mut reader, "it is told", is_told).await;
    let errors = reader.consumer.metrics().errors();
    assert!(matches!(errors, [("unreadable", 1..), ("group", 0), ("other", 0)]), "{errors:?}");
    reader.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_records_that_cannot_be_read_ends_and_says_why() {
    let fixture = Fixture::embedded();
    let topic = fixture.topic(1).await;
    write_unreadable(fixture.config.bootstrap_servers(), &topic);
    let mut reader = Reader::of_the_past(&fixture.config).unwrap();
    reader.add(&[TopicPartition { topic: topic.as_str().into(), partition: 0 }], None).unwrap();
    let read = || {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            match reader.next(Duration::from_millis(100), |_, _| true) {
                Ok(None) => {}
                other => return other,
            }
        }
        panic!("it hangs")
    };
    let error = tokio::task::block_in_place(read).unwrap_err();
    assert!(matches!(&error, ReadError::Refused { topic: refused, .. } if *refused == topic), "{error}");
}

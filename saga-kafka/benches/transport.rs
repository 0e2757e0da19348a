//! How fast records get through: `cargo bench -p saga-kafka`, with KAFKA_BOOTSTRAP_SERVERS for a real Kafka.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may fail loudly")]

use std::time::{Duration, Instant};

use saga_core::{
    record::{Header, OutRecord, Record},
    transport::{Consumer as _, Producer as _, Signal},
};
use saga_kafka::{EmbeddedBroker, KafkaConfig, KafkaConsumer, KafkaProducer, TopicSpec, delete_topics, ensure_topics};

const RECORDS: usize = 200_000;
/// What the runtime hands over at once under load.
const BATCH: usize = 200;
const ROUND_TRIPS: usize = 500;

fn record(topic: &str, number: usize) -> OutRecord {
    let headers = (0..12).map(|i| Header::text(format!("ce_header{i}"), "0193f2a4-7c1e-7a52-9d3c-5f0f3f6f8a11"));
    OutRecord {
        topic: topic.to_owned().into(),
        key: Some(format!("{:036}", number % 10_007).into_bytes()),
        value: Some(vec![b'x'; 400]),
        headers: headers.collect(),
    }
}

async fn records(consumer: &mut KafkaConsumer, room: usize) -> Vec<Record> {
    loop {
        match consumer.next(room).await {
            Signal::Records(records) => return records,
            Signal::Fatal(why) => panic!("{why}"),
            _ => {}
        }
    }
}

async fn read(consumer: &mut KafkaConsumer, count: usize) {
    let mut read = 0;
    while read < count {
        let records = records(consumer, BATCH).await;
        read += records.len();
        let last = records.last().unwrap();
        consumer.store_offsets(&[(last.topic_partition(), last.offset + 1)]);
    }
}

async fn measure(name: &str, config: &KafkaConfig, topics: [&str; 2], count: usize) {
    let [bulk, single] = topics;
    let producer = KafkaProducer::new(config).unwrap();
    assert_eq!(producer.publish(vec![record(single, 0)]).await, [Ok(())]);

    let started = Instant::now();
    let mut open = std::collections::VecDeque::new();
    for first in (0..count).step_by(BATCH) {
        open.push_back(producer.publish((first..first + BATCH).map(|i| record(bulk, i)).collect()));
        // A few batches on their way, as the outbox relay has.
        if open.len() > 4 {
            assert!(open.pop_front().unwrap().await.iter().all(Result::is_ok));
        }
    }
    for published in open {
        assert!(published.await.iter().all(Result::is_ok));
    }
    report(name, "published and acknowledged", count, started.elapsed());

    let mut consumer = KafkaConsumer::subscribe(config, bulk, &[bulk.to_owned()]).unwrap();
    let first = records(&mut consumer, 1).await;
    let started = Instant::now();
    read(&mut consumer, count - first.len()).await;
    report(name, "consumed", count, started.elapsed());
    consumer.close().await;

    let mut consumer = KafkaConsumer::subscribe(config, single, &[single.to_owned()]).unwrap();
    read(&mut consumer, 1).await;
    let mut times = Vec::new();
    for number in 0..ROUND_TRIPS {
        let started = Instant::now();
        let sent = record(single, number);
        let published = producer.publish(vec![sent.clone()]);
        assert_eq!(records(&mut consumer, 2).await[0].key, sent.key);
        times.push(started.elapsed());
        published.await[0].clone().unwrap();
    }
    times.sort();
    println!(
        "{name}: published to consumed, one at a time: p50 {:?}, p99 {:?}",
        times[ROUND_TRIPS / 2],
        times[ROUND_TRIPS * 99 / 100]
    );
    let started = Instant::now();
    consumer.close().await;
    println!("{name}: closed in {:?}", started.elapsed());
}

fn report(name: &str, what: &str, count: usize, elapsed: Duration) {
    println!("{name}: {what}: {:.0} records/s", count as f64 / elapsed.as_secs_f64());
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let run = uuid::Uuid::now_v7().simple();
    let (bulk, single) = (format!("bench.{run}.bulk"), format!("bench.{run}.single"));
    let topics = [bulk.as_str(), single.as_str()];
    let broker = EmbeddedBroker::start(&topics, 6).unwrap();
    // It keeps 5 MB of each partition.
    measure("embedded broker", &broker.config(), topics, 20_000).await;
    let Ok(servers) = std::env::var("KAFKA_BOOTSTRAP_SERVERS") else {
        return println!("Kafka: skipped, KAFKA_BOOTSTRAP_SERVERS is not set");
    };
    let config = KafkaConfig::new(servers);
    ensure_topics(&config, &topics.map(|topic| TopicSpec::events(topic, 6, None))).await.unwrap();
    measure("Kafka", &config, topics, RECORDS).await;
    delete_topics(&config, &topics).await.unwrap();
}

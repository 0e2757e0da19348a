//! A Kafka that stops, hangs and starts again under its clients' feet.
//!
//! It needs a Kafka of its own, which is no matter in a container. Elsewhere it runs where that is asked for:
//! SAGA_REQUIRE_LIVE=1.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail so, and tells how long things take")]

#[path = "conformance/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use saga_core::transport::Producer as _;
use saga_kafka::{KafkaConfig, KafkaProducer, TopicSpec, ensure_topics};
use saga_test_support::servers::{Kafka, Server, Source, Verb};
use support::{PATIENCE, reader::Reader, record, unique};

async fn noticed(reader: &mut Reader, what: &str) {
    let gone = Instant::now();
    reader.until(what, |reader| reader.waiting().is_some()).await;
    println!("{what}: noticed after {:?}: {}", gone.elapsed(), reader.waiting().unwrap());
    assert!(gone.elapsed() < Duration::from_secs(15));
}

async fn ready(reader: &mut Reader, what: &str) {
    let back = Instant::now();
    reader.until(what, |reader| reader.waiting().is_none()).await;
    println!("{what}: ready after {:?}", back.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_that_stops_hangs_or_crashes_is_waited_for_and_nothing_is_lost() {
    let Some(source) = Server::Kafka.source() else { return };
    if source != Source::Container && std::env::var("SAGA_REQUIRE_LIVE").as_deref() != Ok("1") {
        return eprintln!("skipped: needs a Kafka of its own, which SAGA_REQUIRE_LIVE=1 asks for");
    }
    let kafka = Kafka::new(&source).unwrap();
    let config = KafkaConfig::new(kafka.address());
    let (topic, group) = (unique("topic"), unique("group"));

    // Both clients are there before the broker.
    let mut reader = support::consumer(&config, &group, &[&topic]);
    let producer = KafkaProducer::new(&config).unwrap();
    noticed(&mut reader, "not started yet").await;
    kafka.run(Verb::Start).unwrap();
    ensure_topics(&config, &[TopicSpec::events(&topic, 1, None)]).await.unwrap();
    assert_eq!(producer.publish(vec![record(&topic, "k", "0")]).await, [Ok(())]);
    ready(&mut reader, "started").await;
    reader.read(1).await;

    let mut expected = vec!["0".to_owned()];
    for (stop, start) in [(Verb::Stop, Verb::Start), (Verb::Pause, Verb::Resume), (Verb::Kill, Verb::Start)] {
        reader.store();
        kafka.run(stop).unwrap();
        let values: Vec<String> = (0..100).map(|i| format!("{stop:?} {i}")).collect();
        let published = producer.publish(values.iter().map(|v| record(&topic, "k", v.as_str())).collect());
        noticed(&mut reader, &format!("{stop:?}")).await;
        kafka.run(start).unwrap();
        let back = Instant::now();
        assert_eq!(tokio::time::timeout(PATIENCE, published).await.unwrap(), vec![Ok(()); 100]);
        println!("{start:?} after {stop:?}: acknowledged after {:?}", back.elapsed());
        expected.extend(values);
        let last = expected.last().cloned();
        reader.until("the records", |reader| reader.values().last() == last.as_ref()).await;
        ready(&mut reader, &format!("{start:?}")).await;
        // In order and complete; what was not committed when the broker went may come twice, in order again.
        let mut values = reader.values();
        values.dedup();
        let mut seen = std::collections::BTreeSet::new();
        values.retain(|value| seen.insert(value.clone()));
        assert_eq!(values, expected);
    }
    reader.close().await;
}

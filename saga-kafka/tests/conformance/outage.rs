//! Brokers and topics that are not there yet.

use std::time::{Duration, Instant};

use saga_core::{
    Event,
    transport::{Producer as _, PublishError},
};
use saga_kafka::{KafkaConfig, KafkaProducer, TopicSpec, partition_of};
use saga_test_support::wait_until;

use crate::support::{self, Fixture, PATIENCE, record, unique};

pub(crate) async fn a_missing_topic_is_waited_for_and_named(fixture: Fixture) {
    let (there, missing) = (fixture.topic(1).await, unique("missing"));
    let mut reader = fixture.consumer(&unique("group"), &[&there, &missing]);
    let expected = format!("topic {missing} does not exist");
    reader.until("it is missing", |reader| reader.waiting() == Some(&expected)).await;
    fixture.create(TopicSpec::events(&missing, 1, None)).await;
    assert_eq!(fixture.producer().publish(vec![record(&missing, "k", "v"), record(&there, "k", "v")]).await.len(), 2);
    reader.until("both topics", |reader| reader.records.len() == 2 && reader.waiting().is_none()).await;
    reader.close().await;
}

pub(crate) async fn nothing_listens_at_the_address(_fixture: Fixture) {
    // Bound and not listening: no other test's broker gets this port.
    let bound = tokio::net::TcpSocket::new_v4().unwrap();
    bound.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let nobody = bound.local_addr().unwrap().to_string();
    let started = Instant::now();
    let mut reader = support::consumer(&KafkaConfig::new(&nobody), "group", &["any"]);
    reader.until("the broker is missed", |reader| reader.waiting().is_some()).await;
    let why = reader.waiting().unwrap();
    assert!(why.starts_with(&format!("broker {nobody}: ")) && why.contains("refused"), "{why}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let closing = Instant::now();
    reader.close().await;
    assert!(closing.elapsed() < Duration::from_secs(10), "{:?}", closing.elapsed());
}

/// Only the embedded broker can be cut off at will; tests/restart.rs does the same to a Kafka.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_and_comes_back_is_noticed_and_nothing_is_lost() {
    let fixture = Fixture::embedded();
    let broker = fixture.embedded.as_ref().unwrap();
    let topic = fixture.topic(1).await;
    let producer = fixture.producer();
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    assert_eq!(producer.publish(vec![record(&topic, "k", "before")]).await, [Ok(())]);
    reader.read(1).await;
    assert_eq!(reader.health, []);

    broker.set_reachable(false);
    let gone = Instant::now();
    let mut published = producer.publish(vec![record(&topic, "k", "during"), record(&topic, "k", "during, too")]);
    reader.until("the broker is missed", |reader| reader.waiting().is_some()).await;
    assert!(gone.elapsed() < Duration::from_secs(10), "{:?}", gone.elapsed());
    assert!(reader.waiting().unwrap().contains("127.0.0.1:"), "{:?}", reader.health);
    // Acknowledgements are waited for, not given up.
    assert!(tokio::time::timeout(Duration::from_secs(2), &mut published).await.is_err());

    broker.set_reachable(true);
    let back = Instant::now();
    reader.until("all is well", |reader| reader.waiting().is_none()).await;
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    assert_eq!(tokio::time::timeout(PATIENCE, published).await.unwrap(), [Ok(()), Ok(())]);
    reader.until("the records", |reader| reader.records.len() >= 3).await;
    assert_eq!(reader.values()[reader.values().len() - 2..], ["during", "during, too"]);
    reader.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_starts_before_its_broker_becomes_ready() {
    let fixture = Fixture::embedded();
    let broker = fixture.embedded.as_ref().unwrap();
    let topic = fixture.topic(1).await;
    broker.set_reachable(false);
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    let published = fixture.producer().publish(vec![record(&topic, "k", "v")]);
    reader.until("the broker is missed", |reader| reader.waiting().is_some()).await;
    broker.set_reachable(true);
    reader.until("all is well", |reader| reader.waiting().is_none() && reader.assigned.len() == 1).await;
    // The producer went with the end of its statement, before it could send.
    assert!(published.await[0].is_err());
    reader.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_hangs_is_noticed() {
    let fixture = Fixture::embedded();
    let topic = fixture.topic(1).await;
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    reader.until("the partition", |reader| reader.assigned.len() == 1).await;
    let broker = fixture.embedded.as_ref().unwrap();
    broker.set_delay(Duration::from_secs(60));
    reader
        .until("the silence", |reader| reader.waiting().is_some_and(|why| why.contains("no answer for more than")))
        .await;
    broker.set_delay(Duration::ZERO);
    reader.until("all is well", |reader| reader.waiting().is_none()).await;
    reader.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_without_a_broker_says_when_its_queue_is_full() {
    let fixture = Fixture::embedded();
    let topic = fixture.topic(1).await;
    fixture.embedded.as_ref().unwrap().set_reachable(false);
    let config = fixture.config.clone().with_property("queue.buffering.max.messages", "10").unwrap();
    let producer = KafkaProducer::new(&config).unwrap();
    let published = producer.publish((0..30).map(|i| record(&topic, "k", format!("{i}"))).collect());
    assert_eq!((producer.room(), producer.in_flight()), (0, 10));
    assert!(!producer.flush(Duration::from_millis(100)).await);
    fixture.embedded.as_ref().unwrap().set_reachable(true);
    let outcomes = published.await;
    assert!(outcomes[..10].iter().all(Result::is_ok) && outcomes[10..].iter().all(Result::is_err), "{outcomes:?}");
    wait_until("there is room again", || producer.room() == 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_without_a_leader_does_not_stop_the_others() {
    // Two brokers of which one goes, and with it the leader of a partition.
    let (brokers, topic) = (rdkafka::mocking::MockCluster::new(2).unwrap(), unique("topic"));
    brokers.create_topic(&topic, 2, 1).unwrap();
    brokers.partition_leader(&topic, 0, Some(2)).unwrap();
    brokers.partition_leader(&topic, 1, Some(1)).unwrap();
    let key = |partition| (0..).map(|i| format!("{i}")).find(|k| partition_of(k.as_bytes(), 2) == partition).unwrap();
    let (stuck, running) = (key(0), key(1));
    let config = KafkaConfig::new(brokers.bootstrap_servers());
    let config = config.with_property("queue.buffering.max.messages", "100").unwrap();
    let producer = KafkaProducer::new(&config).unwrap();
    let publish =
        |key: &str, count: usize| producer.publish((0..count).map(|i| record(&topic, key, format!("{i}"))).collect());
    // Once the partitions are counted, each has half of the queue.
    let started = Instant::now();
    while !publish(&stuck, 90).await.contains(&Err(PublishError::Full)) {
        assert!(started.elapsed() < PATIENCE, "the partitions are not counted");
    }
    brokers.broker_down(2).unwrap();
    let held = publish(&stuck, 80);
    assert_eq!((producer.in_flight(), producer.room()), (50, 50));
    // Far more than the whole queue would hold, in the same calls as what goes nowhere.
    for _ in 0..20 {
        let both = [&stuck, &running].map(|key| record(&topic, key, "v")).to_vec();
        let outcomes = tokio::time::timeout(PATIENCE, producer.publish(both)).await.unwrap();
        assert_eq!(outcomes, [Err(PublishError::Full), Ok(())]);
        assert_eq!(tokio::time::timeout(PATIENCE, publish(&running, 40)).await.unwrap(), vec![Ok(()); 40]);
    }
    brokers.broker_up(2).unwrap();
    let outcomes = tokio::time::timeout(PATIENCE, held).await.unwrap();
    assert!(outcomes[..50].iter().all(Result::is_ok), "{outcomes:?}");
    assert!(outcomes[50..].iter().all(|outcome| *outcome == Err(PublishError::Full)), "{outcomes:?}");
    wait_until("there is room again", || producer.room() == 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_time_costs_one_attempt_and_no_more() {
    let fixture = Fixture::embedded();
    let (broker, topic) = (fixture.embedded.as_ref().unwrap(), fixture.topic(1).await);
    let producer = fixture.producer();
    let publish = || async { producer.publish(vec![record(&topic, "k", "v")]).await };
    assert_eq!(publish().await, [Ok(())]);
    broker.refuse_time_once();
    assert!(matches!(publish().await[..], [Err(PublishError::Unacknowledged(_))]));
    assert_eq!(publish().await, [Ok(())]);
    let mut reader = saga_kafka::Reader::of_the_past(&fixture.config).unwrap();
    let partition = saga_core::record::TopicPartition { topic: topic.as_str().into(), partition: 0 };
    reader.add(&[partition], None).unwrap();
    let mut times = Vec::new();
    while !reader.has_caught_up() {
        times.extend(reader.next(Duration::from_secs(1), |_, _| true).unwrap().map(|stored| stored.written.is_some()));
    }
    assert_eq!(times, [true, false], "it is written without a time of ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_whose_clock_is_refused_publishes_nevertheless() {
    let fixture = Fixture::embedded();
    let broker = fixture.embedded.as_ref().unwrap();
    fixture.shared_topic(Weighed::TOPIC).await;
    let publisher = saga_kafka::Publisher::new(&fixture.config, "scales").unwrap();
    broker.refuse_time_once();
    assert!(publisher.publish(&Weighed { id: uuid::Uuid::now_v7() }).await.is_ok());
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Event)]
#[event(name = "crate.weighed", topic = "test.crate.events", saga = "id")]
struct Weighed {
    id: uuid::Uuid,
}

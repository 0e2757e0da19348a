//! Consuming: room, backpressure, pausing, stored offsets.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rdkafka::producer::{BaseProducer, BaseRecord};
use saga_core::{
    record::TopicPartition,
    transport::{Consumer as _, Producer as _},
};
use saga_kafka::{KafkaConfig, Position};
use saga_test_support::wait_until;

use crate::support::{self, Fixture, PATIENCE, lags, record, unique};

async fn publish(fixture: &Fixture, topic: &str, numbers: std::ops::Range<usize>) {
    let count = numbers.len();
    let records = numbers.map(|i| record(topic, "key", format!("{i}"))).collect();
    assert_eq!(fixture.producer().publish(records).await, vec![Ok(()); count]);
}

fn numbers(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|i| i.to_string()).collect()
}

pub(crate) async fn without_room_no_records_are_delivered(fixture: Fixture) {
    let topic = fixture.topic(1).await;
    publish(&fixture, &topic, 0..10).await;
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    let started = Instant::now();
    while reader.consumer.buffered() < 10 {
        assert!(started.elapsed() < PATIENCE);
        reader.step(0, Duration::from_millis(20)).await;
    }
    assert!(!reader.step(0, Duration::from_millis(50)).await);
    assert_eq!((reader.assigned.len(), reader.records.len()), (1, 0));
    // A step checks that no more come than there is room for.
    for _ in 0..4 {
        assert!(reader.step(3, PATIENCE).await);
    }
    assert_eq!(reader.values(), numbers(0..10));
    reader.close().await;
}

pub(crate) async fn a_next_that_is_cancelled_loses_nothing(fixture: Fixture) {
    let topic = fixture.topic(1).await;
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    let producer = fixture.producer();
    let publishing = async {
        for i in 0..50 {
            let records = (i * 10..i * 10 + 10).map(|i| record(&topic, "key", format!("{i}"))).collect();
            assert_eq!(producer.publish(records).await, vec![Ok(()); 10]);
        }
    };
    let reading = async {
        let started = Instant::now();
        while reader.records.len() < 500 {
            assert!(started.elapsed() < PATIENCE);
            // Cancelled again and again, also in the middle of things.
            reader.step(7, Duration::from_micros(300)).await;
        }
    };
    tokio::join!(publishing, reading);
    assert_eq!(reader.values(), numbers(0..500));
    reader.close().await;
}

pub(crate) async fn a_busy_runtime_stops_the_fetching_and_loses_nothing(fixture: Fixture) {
    let topic = fixture.topic(1).await;
    publish(&fixture, &topic, 0..20_000).await;
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    reader.until("the first record", |reader| !reader.records.is_empty()).await;
    wait_until("the buffer is full", || reader.consumer.buffered() >= 4_000).await;
    // Nothing is taken for longer than it takes to pause, and than a group lets a member be silent.
    let busy = Instant::now();
    while busy.elapsed() < Duration::from_secs(2) {
        assert!(reader.consumer.buffered() <= 4_600, "{}", reader.consumer.buffered());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    reader.read(20_000).await;
    assert_eq!(reader.values(), numbers(0..20_000));
    reader.close().await;
}

pub(crate) async fn a_paused_partition_waits_and_the_others_do_not(fixture: Fixture) {
    let (paused, running) = (fixture.topic(1).await, fixture.topic(1).await);
    let mut reader = fixture.consumer(&unique("group"), &[&paused, &running]);
    reader.until("both partitions", |reader| reader.assigned.len() == 2).await;
    let partition = TopicPartition { topic: paused.as_str().into(), partition: 0 };
    reader.consumer.pause(std::slice::from_ref(&partition), true);
    publish(&fixture, &paused, 0..5).await;
    publish(&fixture, &running, 0..5).await;
    reader.read(5).await;
    assert!(reader.records.iter().all(|record| *record.topic == *running));
    assert!(!reader.step(9, Duration::from_millis(500)).await, "{:?}", reader.records.last());
    reader.consumer.pause(&[partition], false);
    reader.read(10).await;
    assert_eq!(reader.values(), [numbers(0..5), numbers(0..5)].concat());
    reader.close().await;
}

pub(crate) async fn closing_commits_what_is_stored(fixture: Fixture) {
    let (topic, group) = (fixture.topic(1).await, unique("group"));
    publish(&fixture, &topic, 0..10).await;
    let mut first = fixture.consumer(&group, &[&topic]);
    first.read(10).await;
    first.records.truncate(4);
    first.store();
    first.close().await;
    let mut second = fixture.consumer(&group, &[&topic]);
    second.read(6).await;
    assert_eq!(second.values(), numbers(4..10));
    second.close().await;
}

pub(crate) async fn dropping_commits_what_is_stored(fixture: Fixture) {
    let (topic, group) = (fixture.topic(1).await, unique("group"));
    publish(&fixture, &topic, 0..10).await;
    let mut first = fixture.consumer(&group, &[&topic]);
    first.read(10).await;
    first.records.truncate(9);
    first.store();
    drop(first);
    assert_eq!(fixture.committed(&group, &topic).await, 9);
    let mut second = fixture.consumer(&group, &[&topic]);
    second.read(1).await;
    assert_eq!(second.values(), ["9"]);
    second.close().await;
}

pub(crate) async fn offsets_are_committed_without_closing(fixture: Fixture) {
    let (topic, group) = (fixture.topic(1).await, unique("group"));
    publish(&fixture, &topic, 0..3).await;
    let mut reader = fixture.consumer(&group, &[&topic]);
    reader.read(3).await;
    reader.store();
    // Whoever asks the broker sees it, while the member goes on.
    let committed = fixture.committed(&group, &topic).await;
    assert_eq!(committed, 3);
    reader.close().await;
}

pub(crate) async fn lag_is_what_is_not_done(fixture: Fixture) {
    let topic = fixture.topic(1).await;
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    publish(&fixture, &topic, 0..10).await;
    reader.read(10).await;
    let metrics = reader.consumer.metrics();
    let partition = TopicPartition { topic: topic.as_str().into(), partition: 0 };
    let lag = |records| {
        let (metrics, partition) = (metrics.clone(), partition.clone());
        move || lags(&metrics) == [(partition.clone(), records)]
    };
    wait_until("nothing is done yet", lag(10)).await;
    reader.records.truncate(7);
    reader.store();
    wait_until("three are left", lag(3)).await;
    assert_eq!(lags(&reader.consumer.metrics()), [(partition, 3)]);
    assert!(metrics.rebalances() >= 1);
    reader.close().await;
}

pub(crate) async fn the_marker_of_a_transaction_is_no_lag(fixture: Fixture) {
    let topic = fixture.topic(1).await;
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", fixture.config.bootstrap_servers()).set("transactional.id", unique("producer"));
    let written = topic.clone();
    let write = move || {
        use rdkafka::producer::Producer as _;
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(Duration::from_secs(30)).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::to(&written).key("k").payload("only")).map_err(|(error, _)| error).unwrap();
        producer.commit_transaction(Duration::from_secs(30)).unwrap();
    };
    tokio::task::spawn_blocking(write).await.unwrap();
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    reader.read(1).await;
    let partition = TopicPartition { topic: topic.as_str().into(), partition: 0 };
    let metrics = reader.consumer.metrics();
    // The record that is not done, and the marker behind it.
    wait_until("it is not done", || metrics.positions() == [(partition.clone(), Position { done: 0, lag: 2 })]).await;
    reader.store();
    // While nobody reads, fetching is paused, and what stands behind the last record is not known.
    let all_done = [(partition, Position { done: 1, lag: 0 })];
    let read_on = async {
        while metrics.positions() != all_done {
            reader.step(10, Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, read_on).await.is_ok(), "{:?}", metrics.positions());
    reader.close().await;
}

pub(crate) async fn lag_grows_while_all_is_paused(fixture: Fixture) {
    let topic = fixture.topic(1).await;
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    publish(&fixture, &topic, 0..10).await;
    reader.read(10).await;
    reader.store();
    let partition = TopicPartition { topic: topic.as_str().into(), partition: 0 };
    reader.consumer.pause(std::slice::from_ref(&partition), true);
    publish(&fixture, &topic, 10..15).await;
    let metrics = reader.consumer.metrics();
    wait_until("five have come", || lags(&metrics) == [(partition.clone(), 5)]).await;
    reader.close().await;
}

pub(crate) async fn the_new_group_protocol_can_be_chosen(fixture: Fixture) {
    let (topic, group) = (fixture.topic(2).await, unique("group"));
    publish(&fixture, &topic, 0..10).await;
    let config = fixture.config.clone().with_property("group.protocol", "consumer").unwrap();
    let mut first = support::consumer(&config, &group, &[&topic]);
    first.read(10).await;
    first.store();
    let mut second = support::consumer(&config, &group, &[&topic]);
    let started = Instant::now();
    while first.assigned.len() != 1 || second.assigned.len() != 1 {
        assert!(started.elapsed() < PATIENCE, "{:?} and {:?}", first.assigned, second.assigned);
        first.step(10, Duration::from_millis(10)).await;
        second.step(10, Duration::from_millis(10)).await;
    }
    second.close().await;
    first.until("both partitions", |reader| reader.assigned.len() == 2).await;
    first.close().await;
}

/// Set for the process that is to be killed: bootstrap servers, session timeout, group, topic, instance id.
const CHILD: &str = "SAGA_TEST_CHILD";

/// No test: what the killed process does.
#[test]
#[ignore = "run by the tests that kill it"]
fn a_process_that_will_be_killed() {
    let Ok(arguments) = std::env::var(CHILD) else { return };
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let config = KafkaConfig::new(arguments[0]).with_property("session.timeout.ms", arguments[1]).unwrap();
    let config = config.with_instance_id(arguments.get(4).map(|id| (*id).to_owned()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut reader = support::consumer(&config, arguments[2], &[arguments[3]]);
        reader.read(10).await;
        reader.records.truncate(6);
        reader.store();
        println!("stored");
        reader.until("the end", |_| false).await;
    });
}

/// Kills a member that has read ten records and stored the first six, as soon as that is committed.
async fn kill_a_member(fixture: &Fixture, group: &str, topic: &str, instance_id: &str) {
    let session = match (&fixture.embedded, instance_id) {
        // As the fixture's own members have: the embedded broker knows one for the group.
        (Some(_), _) => "3000",
        // The shortest that Kafka takes by default.
        (None, "") => "6000",
        // What a static member has.
        (None, _) => "45000",
    };
    let arguments = format!("{} {session} {group} {topic} {instance_id}", fixture.config.bootstrap_servers());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "consume::a_process_that_will_be_killed", "--ignored", "--nocapture"])
        .env(CHILD, arguments.trim())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "stored"), "the process ended early");
    assert_eq!(fixture.committed(group, topic).await, 6);
    child.kill().unwrap();
    child.wait().unwrap();
}

pub(crate) async fn a_killed_process_leaves_off_at_its_stored_offset(fixture: Fixture) {
    let (topic, group) = (fixture.topic(1).await, unique("group"));
    publish(&fixture, &topic, 0..10).await;
    kill_a_member(&fixture, &group, &topic, "").await;
    let mut reader = fixture.consumer(&group, &[&topic]);
    let killed = Instant::now();
    reader.read(4).await;
    assert_eq!(reader.values(), numbers(6..10));
    eprintln!("taken over after {:?}", killed.elapsed());
    reader.close().await;
}

pub(crate) async fn a_restarted_static_member_takes_its_partitions_back(fixture: Fixture) {
    let (topic, group) = (fixture.topic(1).await, unique("group"));
    publish(&fixture, &topic, 0..10).await;
    kill_a_member(&fixture, &group, &topic, "a").await;
    let mut reader = support::consumer(&fixture.config.clone().with_instance_id(Some("a".into())), &group, &[&topic]);
    let killed = Instant::now();
    reader.read(4).await;
    assert_eq!(reader.values(), numbers(6..10));
    // The dead member's session lasts 45 seconds.
    assert!(killed.elapsed() < Duration::from_secs(20), "{:?}", killed.elapsed());
    eprintln!("taken back after {:?}", killed.elapsed());
    reader.close().await;
}

//! Topics: found, created, or the reason why not.

use std::time::{Duration, Instant};

use saga_kafka::{KafkaConfig, TopicSpec, TopicsError, ensure_topics};

use crate::support::{Fixture, unique};

pub(crate) async fn existing_topics_are_left_as_they_are(fixture: Fixture) {
    let topic = fixture.topic(3).await;
    // Another number of partitions is a warning, no more.
    let found = ensure_topics(&fixture.config, &[TopicSpec::events(&topic, 6, None)]).await.unwrap();
    assert_eq!(found.created, Vec::<String>::new());
    assert_eq!(found.partitions, [(topic, 3)].into());
}

pub(crate) async fn missing_topics_are_created_as_specified(fixture: Fixture) {
    let (events, letters) = (unique("events"), unique("dlq"));
    fixture.to_be_deleted(&events);
    fixture.to_be_deleted(&letters);
    let specs = [TopicSpec::events(&events, 6, None), TopicSpec::dead_letters(&letters, 2, Some(1))];
    let found = ensure_topics(&fixture.config, &specs).await.unwrap();
    assert_eq!(found.partitions, [(events.clone(), 6), (letters.clone(), 2)].into());
    assert_eq!(found.created.len(), 2);
    assert_eq!(ensure_topics(&fixture.config, &specs).await.unwrap().created, Vec::<String>::new());
    // A letter may be larger than any event.
    use saga_core::transport::Producer as _;
    let record = crate::support::record(&letters, "k", vec![1; 1_500_000]);
    assert_eq!(fixture.producer().publish(vec![record]).await, [Ok(())]);
}

pub(crate) async fn two_processes_may_create_the_same_topics(fixture: Fixture) {
    let specs: Vec<_> = (0..3).map(|_| TopicSpec::events(unique("topic"), 2, None)).collect();
    specs.iter().for_each(|spec| fixture.to_be_deleted(&spec.name));
    let ensure = || ensure_topics(&fixture.config, &specs);
    let (a, b, c) = tokio::join!(ensure(), ensure(), ensure());
    let all = [a.unwrap(), b.unwrap(), c.unwrap()];
    assert!(all.iter().all(|found| found.partitions.len() == 3));
    assert_eq!(all.iter().map(|found| found.created.len()).sum::<usize>(), 3);
}

pub(crate) async fn what_the_broker_refuses_is_told(fixture: Fixture) {
    let topic = unique("topic");
    let error = ensure_topics(&fixture.config, &[TopicSpec::events(&topic, 1, Some(99))]).await.unwrap_err();
    assert!(matches!(&error, TopicsError::Refused { topic: refused, .. } if *refused == topic), "{error}");
    assert!(!error.is_retryable());
    let error = ensure_topics(&fixture.config, &[TopicSpec::events("no spaces", 1, None)]).await.unwrap_err();
    assert!(matches!(&error, TopicsError::Refused { .. }), "{error}");
}

pub(crate) async fn an_unreachable_broker_is_named_and_worth_another_try(_fixture: Fixture) {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let started = Instant::now();
    let error = ensure_topics(&KafkaConfig::new(&nobody), &[TopicSpec::events("any", 1, None)]).await.unwrap_err();
    assert!(matches!(&error, TopicsError::Unreachable { bootstrap, .. } if *bootstrap == nobody), "{error}");
    assert!(error.is_retryable());
    assert!(started.elapsed() < Duration::from_secs(10));
}

pub(crate) async fn asking_for_a_topic_does_not_create_it(fixture: Fixture) {
    let topic = unique("topic");
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    reader.until("it is missing", |reader| reader.waiting().is_some_and(|why| why.contains(&topic))).await;
    // A second look still finds nothing.
    assert!(!reader.step(1, Duration::from_secs(3)).await);
    assert!(reader.assigned.is_empty());
    reader.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_broker_creates_no_topics() {
    let fixture = Fixture::embedded();
    let error = ensure_topics(&fixture.config, &[TopicSpec::events("missing", 1, None)]).await.unwrap_err();
    assert!(error.to_string().contains("creating missing was not answered"), "{error}");
}

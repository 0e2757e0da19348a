//! What the conformance tests share: a broker of either kind, names of their own, a reader, patience.
#![allow(dead_code, reason = "each test program uses its part of this")]
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

pub(crate) mod reader;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use saga_core::record::{Header, OutRecord, TopicPartition};
use saga_kafka::{
    ConsumerMetrics, EmbeddedBroker, KafkaConfig, KafkaConsumer, KafkaProducer, TopicSpec, delete_topics, ensure_topics,
};

pub(crate) use saga_test_support::PATIENCE;

/// A broker with topics and groups that no other test has.
pub(crate) struct Fixture {
    pub(crate) config: KafkaConfig,
    pub(crate) embedded: Option<EmbeddedBroker>,
    topics: Mutex<Vec<String>>,
}

/// Unique among all tests of all runs that may use the same broker.
pub(crate) fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let id = uuid::Uuid::now_v7().simple().to_string();
    format!("test.{what}.{}.{}", &id[..], COUNT.fetch_add(1, Ordering::Relaxed))
}

/// How many records of each assigned partition are not done.
pub(crate) fn lags(metrics: &ConsumerMetrics) -> Vec<(TopicPartition, i64)> {
    metrics.positions().into_iter().map(|(partition, position)| (partition, position.lag)).collect()
}

impl Fixture {
    pub(crate) fn embedded() -> Self {
        log();
        let embedded = EmbeddedBroker::start::<&str>(&[], 1).unwrap();
        Self { config: embedded.config(), embedded: Some(embedded), topics: Mutex::default() }
    }

    /// Nothing where there is no Kafka to test with.
    pub(crate) fn live() -> Option<Self> {
        log();
        let config = KafkaConfig::new(saga_test_support::servers::kafka()?);
        Some(Self { config, embedded: None, topics: Mutex::default() })
    }

    pub(crate) async fn topic(&self, partitions: i32) -> String {
        let name = unique("topic");
        self.create(TopicSpec::events(&name, partitions, None)).await;
        name
    }

    pub(crate) async fn create(&self, spec: TopicSpec) {
        match &self.embedded {
            Some(embedded) => embedded.create_topic(&spec.name, spec.partitions).unwrap(),
            None => self.ensure(&spec).await,
        }
    }

    pub(crate) async fn ensure(&self, spec: &TopicSpec) {
        self.to_be_deleted(&spec.name);
        ensure_topics(&self.config, std::slice::from_ref(spec)).await.unwrap();
    }

    /// A topic with a name that is not the test's own.
    pub(crate) async fn shared_topic(&self, name: &str) {
        match &self.embedded {
            Some(embedded) => embedded.create_topic(name, 1).unwrap(),
            None => drop(ensure_topics(&self.config, &[TopicSpec::events(name, 1, None)]).await.unwrap()),
        }
    }

    /// The group's offset for the topic's first partition, once there is one.
    pub(crate) async fn committed(&self, group: &str, topic: &str) -> i64 {
        use rdkafka::{
            ClientConfig, Offset, TopicPartitionList,
            consumer::{BaseConsumer, Consumer as _},
        };
        let asking: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.config.bootstrap_servers())
            .set("group.id", group)
            .create()
            .unwrap();
        let topic = topic.to_owned();
        let ask = move || {
            let started = Instant::now();
            loop {
                let mut list = TopicPartitionList::new();
                list.add_partition(&topic, 0);
                let offsets = asking.committed_offsets(list, Duration::from_secs(5));
                if let Ok(offsets) = offsets
                    && let Offset::Offset(offset) = offsets.elements()[0].offset()
                {
                    return offset;
                }
                assert!(started.elapsed() < PATIENCE, "nothing is committed");
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        tokio::task::spawn_blocking(ask).await.unwrap()
    }

    pub(crate) fn to_be_deleted(&self, topic: &str) {
        self.topics.lock().unwrap().push(topic.to_owned());
    }

    pub(crate) fn consumer(&self, group: &str, topics: &[&str]) -> reader::Reader {
        consumer(&self.config, group, topics)
    }

    pub(crate) fn producer(&self) -> KafkaProducer {
        KafkaProducer::new(&self.config).unwrap()
    }
}

pub(crate) fn consumer(config: &KafkaConfig, group: &str, topics: &[&str]) -> reader::Reader {
    let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
    reader::Reader::new(KafkaConsumer::subscribe(config, group, &topics).unwrap())
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let topics = std::mem::take(&mut *self.topics.lock().unwrap());
        if self.embedded.is_some() || topics.is_empty() {
            return;
        }
        let config = self.config.clone();
        // A test's own runtime cannot be waited on from within.
        let deleted = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            runtime.block_on(delete_topics(&config, &topics))
        });
        if let Ok(Err(error)) = deleted.join() {
            eprintln!("topics of the test remain: {error}");
        }
    }
}

fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

pub(crate) fn record(topic: &str, key: &str, value: impl Into<Vec<u8>>) -> OutRecord {
    OutRecord {
        topic: topic.to_owned().into(),
        key: Some(key.as_bytes().to_vec()),
        value: Some(value.into()),
        headers: Vec::<Header>::new(),
    }
}

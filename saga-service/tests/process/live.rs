//! An example service as processes on Kafka and PostgreSQL, in a namespace of its own, for tests that kill them.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use saga_core::{Event, Namespace};
use saga_kafka::{KafkaConfig, Publisher};
use saga_store::Db;
use uuid::Uuid;

use crate::child::{Probe, example};

/// Longer than a rebalance and a lease after a process was killed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Live {
    /// The example, whose participant has the same name.
    name: &'static str,
    pub(crate) kafka: String,
    postgres: String,
    pub(crate) namespace: Namespace,
    pub(crate) db: Db,
    publisher: Publisher,
}

impl Live {
    /// None where there is no Kafka or no PostgreSQL to test with.
    pub(crate) async fn new(name: &'static str) -> Option<Self> {
        let (kafka, postgres) = (saga_test_support::servers::kafka()?, saga_test_support::servers::postgres()?);
        // A namespace is short.
        let namespace: Namespace = format!("t{}", &Uuid::new_v4().simple().to_string()[..12]).parse().unwrap();
        let db = Db::connect(postgres.parse().unwrap(), &namespace.schema(name), &[]).await.unwrap();
        let publisher = Publisher::new(&KafkaConfig::new(&kafka), "test").unwrap().in_namespace(namespace.clone());
        Some(Self { name, kafka, postgres, namespace, db, publisher })
    }

    /// A process. With a name of its own it has its partitions back at once when it starts again.
    pub(crate) fn start(&self, instance: &str) -> Probe {
        let namespace = self.namespace.to_string();
        let mut command = example(
            self.name,
            &[
                ("DATABASE_URL", &self.postgres),
                ("KAFKA_BOOTSTRAP_SERVERS", &self.kafka),
                ("SAGA_NAMESPACE", &namespace),
                ("SAGA_INSTANCE_ID", instance),
                ("SAGA_TOPIC_PARTITIONS", "1"),
                ("RUST_LOG", "warn"),
            ],
        );
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Probe::spawn(command)
    }

    pub(crate) async fn publish<E: Event>(&self, events: &[E]) {
        self.publisher.publish_all(events).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        self.db.query_opt(sql, []).await.unwrap().unwrap().get(0).unwrap()
    }

    pub(crate) async fn eventually(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let begun = Instant::now();
        while !holds().await {
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until so many are counted.
    pub(crate) async fn reaches(&self, what: &str, sql: &'static str, wanted: i64) {
        self.eventually(what, async || self.count(sql).await >= wanted).await;
    }

    pub(crate) async fn drop_schema(self) {
        let sql = format!("DROP SCHEMA \"{}\" CASCADE", self.namespace.schema(self.name));
        self.db.query(sql.leak(), []).await.unwrap();
    }
}

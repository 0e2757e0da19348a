//! A join on Kafka and PostgreSQL whose two topics are consumed by two processes, which are killed between arrivals.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use saga_core::Namespace;
use saga_kafka::{KafkaConfig, Publisher};
use saga_store::Db;
use uuid::Uuid;

use crate::{
    child::{Probe, example},
    common::{
        client,
        meeting::{Left, Right},
    },
};

/// Longer than a rebalance after a process was killed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Meetings {
    kafka: String,
    postgres: String,
    namespace: Namespace,
    db: Db,
    publisher: Publisher,
}

impl Meetings {
    async fn new(kafka: String, postgres: String) -> Self {
        // A namespace is short.
        let namespace: Namespace = format!("m{}", &Uuid::new_v4().simple().to_string()[..12]).parse().unwrap();
        let db = Db::connect(postgres.parse().unwrap(), &namespace.schema("meeting"), &[]).await.unwrap();
        let publisher = Publisher::new(&KafkaConfig::new(&kafka), "test").unwrap().in_namespace(namespace.clone());
        Self { kafka, postgres, namespace, db, publisher }
    }

    /// A process. With a name of its own it has its partitions back at once when it starts again.
    fn start(&self, name: &str) -> Probe {
        let namespace = self.namespace.to_string();
        let mut command = example(
            "meeting",
            &[
                ("DATABASE_URL", &self.postgres),
                ("KAFKA_BOOTSTRAP_SERVERS", &self.kafka),
                ("SAGA_NAMESPACE", &namespace),
                ("SAGA_INSTANCE_ID", name),
                ("SAGA_TOPIC_PARTITIONS", "1"),
                ("RUST_LOG", "warn"),
            ],
        );
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Probe::spawn(command)
    }

    /// Publishes these at the same time.
    async fn publish(&self, left: &[Left], right: &[Right]) {
        let (lefts, rights) = tokio::join!(self.publisher.publish_all(left), self.publisher.publish_all(right));
        lefts.into_iter().chain(rights).collect::<Result<Vec<_>, _>>().unwrap();
    }

    async fn count(&self, sql: &'static str) -> i64 {
        self.db.query_opt(sql, []).await.unwrap().unwrap().get(0).unwrap()
    }

    async fn eventually(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let begun = Instant::now();
        while !holds().await {
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            tokio::task::yield_now().await;
        }
    }

    async fn held(&self) -> i64 {
        self.count("SELECT count(*) FROM meeting").await
    }

    async fn published(&self) -> i64 {
        self.count("SELECT count(*) FROM saga_barrier WHERE mark = 'done'").await
    }
}

/// Whether the process consumes this topic.
fn consumes(process: &Probe, topic: &str) -> bool {
    let metrics = client::get(process.addr, "/metrics").map(|answer| answer.body).unwrap_or_default();
    metrics.lines().any(|line| line.starts_with("saga_consumer_lag{") && line.contains(&format!("{topic}\"")))
}

/// Two processes of which each consumes one of the two topics.
async fn two_processes(meetings: &Meetings) -> (Probe, Probe) {
    let (one, other) = (meetings.start("one"), meetings.start("other"));
    let apart = async || {
        let of = |process: &Probe| (consumes(process, "a.events"), consumes(process, "b.events"));
        matches!((of(&one), of(&other)), ((true, false), (false, true)) | ((false, true), (true, false)))
    };
    meetings.eventually("each process consumes one of the topics", apart).await;
    (one, other)
}

fn sagas(count: usize) -> (Vec<Left>, Vec<Right>) {
    (0..count).map(|_| Uuid::now_v7()).map(|id| (Left { id }, Right { id })).unzip()
}

#[tokio::test]
async fn a_join_survives_kill_9_between_arrivals_that_two_processes_consume() {
    let (Some(kafka), Some(postgres)) = (saga_test_support::servers::kafka(), saga_test_support::servers::postgres())
    else {
        return;
    };
    let meetings = Meetings::new(kafka, postgres).await;
    let (one, other) = two_processes(&meetings).await;

    let (left, right) = sagas(300);
    meetings.publish(&left, &right).await;
    meetings.eventually("all meet that come at once in two processes", async || meetings.held().await == 300).await;

    let (left, right) = sagas(300);
    meetings.publish(&left, &[]).await;
    let waiting = async || meetings.count("SELECT count(*) FROM saga_barrier WHERE mark = 'waiting'").await == 300;
    meetings.eventually("all wait", waiting).await;
    one.signal("-KILL");
    other.signal("-KILL");
    drop((one, other));
    meetings.publish(&[], &right).await;
    let (one, other) = two_processes(&meetings).await;
    meetings.eventually("all meet that waited", async || meetings.held().await == 600).await;

    let (left, right) = sagas(1_000);
    let begun = meetings.held().await;
    let killing = async {
        meetings.eventually("some have met", async || meetings.held().await > begun).await;
        one.signal("-KILL");
        drop(one);
        meetings.start("one")
    };
    let ((), _one) = tokio::join!(meetings.publish(&left, &right), killing);
    meetings.eventually("all meet when one is killed meanwhile", async || meetings.held().await == 1_600).await;
    assert_eq!(meetings.published().await, 1_600);
    assert_eq!(meetings.count("SELECT count(*) FROM saga_arrival").await, 3_200);
    drop(other);
    let drop_schema = format!("DROP SCHEMA \"{}\" CASCADE", meetings.namespace.schema("meeting"));
    meetings.db.query(drop_schema.leak(), []).await.unwrap();
}

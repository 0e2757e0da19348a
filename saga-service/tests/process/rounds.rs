//! A step that runs in rounds on Kafka and PostgreSQL, in a process that is killed between them.

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
    common::tracking::{ROUNDS, Sent},
};

/// Longer than a rebalance and a lease after a process was killed.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn rounds_survive_kill_9_and_none_runs_twice() {
    let (Some(kafka), Some(postgres)) = (saga_test_support::servers::kafka(), saga_test_support::servers::postgres())
    else {
        return;
    };
    // A namespace is short.
    let namespace: Namespace = format!("r{}", &Uuid::new_v4().simple().to_string()[..12]).parse().unwrap();
    let schema = namespace.schema("tracking");
    let start = || {
        let name = namespace.to_string();
        let variables = [
            ("DATABASE_URL", &*postgres),
            ("KAFKA_BOOTSTRAP_SERVERS", &*kafka),
            ("SAGA_NAMESPACE", &*name),
            // Its partitions come back at once when it starts again.
            ("SAGA_INSTANCE_ID", "one"),
            ("SAGA_TOPIC_PARTITIONS", "1"),
            ("RUST_LOG", "warn"),
        ];
        let mut command = example("tracking", &variables);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Probe::spawn(command)
    };
    let mut process = start();
    let db = Db::connect(postgres.parse().unwrap(), &schema, &[]).await.unwrap();
    let publisher = Publisher::new(&KafkaConfig::new(&kafka), "test").unwrap().in_namespace(namespace.clone());
    let count = async |sql: &'static str| -> i64 { db.query_opt(sql, []).await.unwrap().unwrap().get(0).unwrap() };
    let looked = async || count("SELECT count(*) FROM looked").await;

    let parcels: Vec<Sent> = (0..200).map(|_| Sent { id: Uuid::now_v7() }).collect();
    let sent = publisher.publish_all(&parcels).await;
    sent.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    let all = 200 * i64::from(ROUNDS);
    for kill_at in [150, 500, 900, all] {
        let begun = Instant::now();
        while looked().await < kill_at {
            assert!(begun.elapsed() < PATIENCE, "{} of {kill_at} rounds", looked().await);
            tokio::task::yield_now().await;
        }
        if kill_at < all {
            process.signal("-KILL");
            drop(process);
            process = start();
        }
    }
    let begun = Instant::now();
    while count("SELECT count(*) FROM saga_barrier WHERE mark = 'done'").await < 200 {
        assert!(begun.elapsed() < PATIENCE, "all are done");
        tokio::task::yield_now().await;
    }
    assert_eq!(looked().await, all, "each round of each parcel, once");
    assert_eq!(count("SELECT count(*) FROM saga_parked").await, 0);
    drop(process);
    db.query(format!("DROP SCHEMA \"{schema}\" CASCADE").leak(), []).await.unwrap();
}

//! Waiting for what the runtime needs: databases and topics.

use std::time::Duration;

use saga_core::{Namespace, Participant, dead_letter, graph::Declaration, runtime::Health, store::StoreError};
use saga_kafka::{KafkaConfig, TopicSpec, TopicsError, ensure_topics};
use saga_store::{ConnectError, Db};

use crate::{config::TopicConfig, error::ServiceError};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The pause before the next attempt, twice as long each time.
struct Pause(Duration);

impl Pause {
    fn first() -> Self {
        Self(FIRST_PAUSE)
    }

    async fn pass(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}

/// Connects to every database and applies its migrations.
pub(crate) async fn databases(health: &Health, databases: impl Iterator<Item = &Db>) -> Result<(), ServiceError> {
    for db in databases {
        let mut pause = Pause::first();
        loop {
            match db.prepare().await {
                Ok(()) => break,
                Err(ConnectError::Unavailable(why) | ConnectError::Full(why)) => {
                    health.set_waiting("database", Some(why))
                }
                Err(error) => return Err(ServiceError::Database(error)),
            }
            pause.pass().await;
        }
    }
    health.set_waiting("database", None);
    Ok(())
}

/// Compares the participant with what its database has seen of it.
pub(crate) async fn steps(health: &Health, db: &Db, participant: &Participant<Db>) -> Result<(), ServiceError> {
    let mut pause = Pause::first();
    loop {
        match participant.declare_to(db).await {
            Ok(findings) if findings.is_empty() => break,
            Ok(findings) => return Err(ServiceError::Declaration(findings)),
            Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict(_) | StoreError::Locked(_))) => {
                health.set_waiting("database", Some(error.to_string()));
            }
            Err(error) => return Err(ServiceError::Runtime(error.to_string())),
        }
        pause.pass().await;
    }
    health.set_waiting("database", None);
    Ok(())
}

/// Creates the missing topics that the participant consumes or publishes to.
pub(crate) async fn topics(
    health: &Health,
    kafka: &KafkaConfig,
    config: TopicConfig,
    (namespace, declaration): (&Namespace, &Declaration),
) -> Result<(), ServiceError> {
    let specs = specs(config, namespace, declaration);
    let mut pause = Pause::first();
    loop {
        let (broker, topics) = match ensure_topics(kafka, &specs).await {
            Ok(_) => (None, None),
            Err(error @ TopicsError::Unreachable { .. }) => (Some(error.to_string()), None),
            // An operator may create them or grant the right: no restart is needed.
            Err(error @ (TopicsError::NoLeader { .. } | TopicsError::NotAllowed { .. })) => {
                (None, Some(error.to_string()))
            }
            Err(TopicsError::Client(error)) => return Err(error.into()),
            Err(error @ TopicsError::Refused { .. }) => return Err(ServiceError::Topics(error)),
        };
        let done = broker.is_none() && topics.is_none();
        health.set_waiting("broker", broker);
        health.set_waiting("topics", topics);
        if done {
            return Ok(());
        }
        pause.pass().await;
    }
}

fn specs(config: TopicConfig, namespace: &Namespace, declaration: &Declaration) -> Vec<TopicSpec> {
    let (partitions, replicas) = (i32::from(config.partitions), config.replication_factor.map(i32::from));
    let mut events = declaration.consumed_topics();
    events.extend(declaration.published_topics());
    events.sort_unstable();
    events.dedup();
    let dead_letters = dead_letter::topic(declaration.participant);
    let named = |topic: String| namespace.of(&topic).into_owned();
    let events = events.into_iter().map(|topic| TopicSpec::events(named(topic), partitions, replicas));
    events.chain([TopicSpec::dead_letters(named(dead_letters), partitions, replicas)]).collect()
}

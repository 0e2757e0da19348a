//! Creating topics before anyone publishes to them or consumes them.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::KafkaError as NativeError,
    types::RDKafkaErrorCode as Code,
};

use crate::{KafkaConfig, KafkaError};

/// Time limit of one request to the brokers.
const REQUEST: Duration = Duration::from_secs(5);
/// How long a new topic's partitions may be without leaders.
const LEADERS: Duration = Duration::from_secs(15);

/// A topic that must exist, and how to create it when it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// The number of partitions it is created with.
    pub partitions: i32,
    /// The number of replicas; the broker's default when none.
    pub replication: Option<i32>,
    /// Topic properties, such as `retention.ms`.
    pub config: Vec<(String, String)>,
}

impl TopicSpec {
    /// A topic of events.
    pub fn events(name: impl Into<String>, partitions: i32, replication: Option<i32>) -> Self {
        Self { name: name.into(), partitions, replication, config: Vec::new() }
    }

    /// A topic of dead letters. A dead letter is larger than its event by the headers that say why (2 MiB are allowed).
    /// It is kept for 30 days, so that someone can look at it.
    pub fn dead_letters(name: impl Into<String>, partitions: i32, replication: Option<i32>) -> Self {
        let config = [("max.message.bytes", "2097152"), ("retention.ms", "2592000000")];
        Self {
            name: name.into(),
            partitions,
            replication,
            config: config.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        }
    }
}

/// Why topics are not there.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TopicsError {
    /// No broker answers: try again.
    #[error("broker {bootstrap} cannot be reached: {reason}")]
    Unreachable {
        /// The addresses that were tried.
        bootstrap: String,
        /// What librdkafka says.
        reason: String,
    },
    /// The topics are missing or hidden, and we have no right to create them.
    #[error(
        "topics {} are missing or hidden, and creating them is not allowed: have them created, or grant Describe on \
         them (and Create, for this program to create them)", .topics.join(", ")
    )]
    NotAllowed {
        /// Their names.
        topics: Vec<String>,
    },
    /// The brokers refuse to create the topic as specified.
    #[error("topic {topic} is missing, and the broker refuses to create it: {reason}")]
    Refused {
        /// Its name.
        topic: String,
        /// What the broker says.
        reason: String,
    },
    /// The topics exist, but some of their partitions have no leader yet: try again.
    #[error("topics {} have partitions without a leader", .topics.join(", "))]
    NoLeader {
        /// Their names.
        topics: Vec<String>,
    },
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] KafkaError),
}

impl TopicsError {
    /// Whether it may mend itself, so that trying again makes sense.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NoLeader { .. })
    }
}

/// What was found and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    /// Names of the topics that were missing and have been created.
    pub created: Vec<String>,
    /// How many partitions each of the topics has.
    pub partitions: BTreeMap<String, i32>,
}

/// Creates those of the topics that are missing, and waits until all of them have leaders. Existing ones are left as
/// they are. That another process creates them at the same time is fine.
///
/// # Errors
/// See [`TopicsError`]; those that [may mend themselves](TopicsError::is_retryable) come after 5 seconds (no broker
/// answers), 10 seconds (none creates) or 15 seconds (no leader).
pub async fn ensure_topics(config: &KafkaConfig, topics: &[TopicSpec]) -> Result<Topics, TopicsError> {
    let admin = Arc::new(Admin::new(config)?);
    let missing: Vec<&TopicSpec> = {
        let found = admin.look_up(names(topics)).await?;
        topics.iter().filter(|topic| matches!(found.get(&topic.name), Some(Found::Missing))).collect()
    };
    let created = if missing.is_empty() { Vec::new() } else { admin.create(&missing).await? };
    let deadline = Instant::now() + LEADERS;
    loop {
        let found = admin.look_up(names(topics)).await?;
        let unready: Vec<String> =
            found.iter().filter(|(_, found)| !matches!(found, Found::Ready(_))).map(|(name, _)| name.clone()).collect();
        if unready.is_empty() {
            let partitions = found.into_iter().filter_map(|(name, found)| match found {
                Found::Ready(partitions) => Some((name, partitions)),
                _ => None,
            });
            let topics_found = Topics { created, partitions: partitions.collect() };
            warn_of_differences(topics, &topics_found);
            return Ok(topics_found);
        }
        if Instant::now() >= deadline {
            return Err(TopicsError::NoLeader { topics: unready });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Deletes the topics, with all they hold. For tests; topics that do not exist are passed over.
///
/// # Errors
/// When no broker answers, or it refuses.
pub async fn delete_topics(config: &KafkaConfig, topics: &[&str]) -> Result<(), TopicsError> {
    let admin = Admin::new(config)?;
    let results = admin.client.delete_topics(topics, &options()).await.map_err(|error| admin.unreachable(&error))?;
    for result in results {
        match result {
            Ok(_) | Err((_, Code::UnknownTopicOrPartition | Code::UnknownTopic)) => {}
            Err((topic, Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)) => {
                return Err(TopicsError::NotAllowed { topics: vec![topic] });
            }
            Err((topic, code)) => return Err(TopicsError::Refused { topic, reason: code.to_string() }),
        }
    }
    Ok(())
}

fn names(topics: &[TopicSpec]) -> Vec<String> {
    topics.iter().map(|topic| topic.name.clone()).collect()
}

/// Correctness does not depend on it: each event finds its partition by itself. But a saga's work then moves between
/// processes from topic to topic.
fn warn_of_differences(specs: &[TopicSpec], found: &Topics) {
    for spec in specs {
        if let Some(actual) = found.partitions.get(&spec.name).filter(|actual| **actual != spec.partitions) {
            tracing::warn!(
                topic = spec.name,
                actual,
                asked = spec.partitions,
                "the topic has another number of partitions"
            );
        }
    }
}

enum Found {
    /// This many partitions, each with a leader.
    Ready(i32),
    NotReady,
    Missing,
}

#[derive(Clone)]
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::log::line(level, facility, message);
    }

    fn error(&self, error: NativeError, reason: &str) {
        tracing::debug!("Kafka admin: {error}: {reason}");
    }
}

struct Admin {
    client: AdminClient<Quiet>,
    bootstrap: String,
}

impl Admin {
    fn new(config: &KafkaConfig) -> Result<Self, KafkaError> {
        let client = AdminClient::from_config_and_context(&config.producer(), Quiet)
            .map_err(|error| KafkaError::client(&error))?;
        Ok(Self { client, bootstrap: config.bootstrap_servers().to_owned() })
    }

    fn unreachable(&self, error: &NativeError) -> TopicsError {
        let reason = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
        TopicsError::Unreachable { bootstrap: self.bootstrap.clone(), reason }
    }

    /// Asks for each topic by its name; asking creates nothing (allow.auto.create.topics=false).
    async fn look_up(self: &Arc<Self>, topics: Vec<String>) -> Result<BTreeMap<String, Found>, TopicsError> {
        let admin = self.clone();
        let look_up = move || {
            let mut found = BTreeMap::new();
            let mut hidden = Vec::new();
            for name in topics {
                match admin.look_up_one(&name)? {
                    Some(state) => drop(found.insert(name, state)),
                    None => hidden.push(name),
                }
            }
            if hidden.is_empty() { Ok(found) } else { Err(TopicsError::NotAllowed { topics: hidden }) }
        };
        // librdkafka blocks while it asks.
        tokio::task::spawn_blocking(look_up)
            .await
            .unwrap_or_else(|error| Err(KafkaError::Client(format!("looking up topics failed: {error}")).into()))
    }

    /// Nothing when we may not know.
    fn look_up_one(&self, name: &str) -> Result<Option<Found>, TopicsError> {
        let metadata =
            self.client.inner().fetch_metadata(Some(name), REQUEST).map_err(|error| self.unreachable(&error))?;
        let Some(topic) = metadata.topics().first() else { return Ok(Some(Found::Missing)) };
        Ok(match topic.error().map(Code::from) {
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Some(Found::Missing),
            Some(Code::TopicAuthorizationFailed) => None,
            Some(Code::InvalidTopic) => {
                return Err(TopicsError::Refused { topic: name.into(), reason: Code::InvalidTopic.to_string() });
            }
            Some(_) => Some(Found::NotReady),
            // Only now: with an error there is no list of partitions, and rust-rdkafka would read it from nowhere.
            None => {
                let partitions = topic.partitions();
                let led = !partitions.is_empty() && partitions.iter().all(|p| p.leader() >= 0);
                Some(if led {
                    Found::Ready(i32::try_from(partitions.len()).unwrap_or(i32::MAX))
                } else {
                    Found::NotReady
                })
            }
        })
    }

    async fn create(&self, missing: &[&TopicSpec]) -> Result<Vec<String>, TopicsError> {
        let new: Vec<NewTopic<'_>> = missing
            .iter()
            .map(|spec| {
                let replication = TopicReplication::Fixed(spec.replication.unwrap_or(-1));
                let topic = NewTopic::new(&spec.name, spec.partitions, replication);
                spec.config.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
            })
            .collect();
        let names = || missing.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ");
        let unanswered = |reason: &str| TopicsError::Unreachable {
            bootstrap: self.bootstrap.clone(),
            reason: format!("creating {} was not answered: {reason}", names()),
        };
        let results = self.client.create_topics(&new, &options()).await.map_err(|error| match &error {
            // librdkafka itself does not take it.
            NativeError::AdminOpCreation(reason) => TopicsError::Refused { topic: names(), reason: reason.clone() },
            error => unanswered(&error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string())),
        })?;
        let (mut created, mut denied) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok(topic) => {
                    tracing::info!(topic, "Kafka: topic created");
                    created.push(topic);
                }
                Err((_, Code::TopicAlreadyExists)) => {}
                Err((topic, Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)) => denied.push(topic),
                Err((_, code @ (Code::OperationTimedOut | Code::RequestTimedOut | Code::NotController))) => {
                    return Err(unanswered(&code.to_string()));
                }
                Err((topic, code)) => return Err(TopicsError::Refused { topic, reason: code.to_string() }),
            }
        }
        if denied.is_empty() { Ok(created) } else { Err(TopicsError::NotAllowed { topics: denied }) }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST * 2)).operation_timeout(Some(REQUEST))
}

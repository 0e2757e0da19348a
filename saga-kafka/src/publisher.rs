//! Publishing typed events from programs that are not services: a website, an import, a test.

use std::time::Duration;

use jiff::Timestamp;
use saga_core::{
    Event, Namespace,
    envelope::{self, Outgoing},
    event::EventType,
    record::OutRecord,
    trace::TraceContext,
    transport::{Producer, PublishError},
};
use uuid::Uuid;

use crate::{KafkaConfig, KafkaError, KafkaProducer};

/// How long a confirmation is waited for; it takes milliseconds when all is well.
const PATIENCE: Duration = Duration::from_secs(30);
/// Events in flight at once in [`Publisher::publish_all`].
const AT_ONCE: usize = 1_000;

/// Why an event was not published.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PublisherError {
    /// [`Event::validate`] refused it. Every consumer would dead-letter it.
    #[error("the event is invalid: {0}")]
    Invalid(String),
    /// It cannot be written as JSON.
    #[error("the event cannot be encoded: {0}")]
    Encode(String),
    /// The broker did not confirm it.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The broker did not confirm it in time, and still may. Publish it again under the same id: consumers handle it
    /// once.
    #[error(
        "the broker did not confirm the event within {0:?}; it may still arrive, so publish it again under the same id"
    )]
    TimedOut(Duration),
}

/// Publishes events and waits for the broker's confirmation.
#[derive(Clone)]
pub struct Publisher {
    producer: KafkaProducer,
    source: String,
    namespace: Namespace,
    patience: Duration,
}

impl Publisher {
    /// A publisher with a producer of its own. `source` names the program; it is the events' `ce_source`.
    ///
    /// # Errors
    /// When the configuration contradicts itself.
    pub fn new(config: &KafkaConfig, source: impl Into<String>) -> Result<Self, KafkaError> {
        Ok(Self::with_producer(KafkaProducer::new(config)?, source))
    }

    /// A publisher that shares this producer.
    pub fn with_producer(producer: KafkaProducer, source: impl Into<String>) -> Self {
        Self { producer, source: source.into(), namespace: Namespace::default(), patience: PATIENCE }
    }

    /// Publishes to the topics of this namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = namespace;
        self
    }

    /// Publishes the event under a new id, which is returned once the broker has confirmed it.
    ///
    /// # Errors
    /// See [`PublisherError`].
    pub async fn publish<E: Event>(&self, event: &E) -> Result<Uuid, PublisherError> {
        let id = Uuid::now_v7();
        self.publish_as(id, event, &TraceContext::default()).await?;
        Ok(id)
    }

    /// Publishes the event under this id and in this trace. However often that is done, consumers handle it once.
    ///
    /// # Errors
    /// See [`PublisherError`].
    pub async fn publish_as<E: Event>(&self, id: Uuid, event: &E, trace: &TraceContext) -> Result<(), PublisherError> {
        let record = self.seal(id, event, trace)?;
        self.confirmed(vec![record]).await?.into_iter().try_for_each(|outcome| outcome.map_err(PublisherError::from))
    }

    /// Publishes the events in their order, each under a new id. A failure stops none of the others; the ids and
    /// failures are in the events' order.
    pub async fn publish_all<E: Event>(&self, events: &[E]) -> Vec<Result<Uuid, PublisherError>> {
        let mut results = Vec::with_capacity(events.len());
        for chunk in events.chunks(AT_ONCE) {
            let mut records = Vec::with_capacity(chunk.len());
            let sealed: Vec<Result<Uuid, PublisherError>> = chunk
                .iter()
                .map(|event| {
                    let id = Uuid::now_v7();
                    records.push(self.seal(id, event, &TraceContext::default())?);
                    Ok(id)
                })
                .collect();
            let count = records.len();
            let outcomes: Vec<Result<(), PublisherError>> = match self.confirmed(records).await {
                Ok(outcomes) => outcomes.into_iter().map(|outcome| outcome.map_err(PublisherError::from)).collect(),
                Err(error) => vec![Err(error); count],
            };
            let mut outcomes = outcomes.into_iter();
            results.extend(sealed.into_iter().map(|id| {
                let id = id?;
                outcomes.next().unwrap_or(Ok(()))?;
                Ok(id)
            }));
        }
        results
    }

    fn seal<E: Event>(&self, id: Uuid, event: &E, trace: &TraceContext) -> Result<OutRecord, PublisherError> {
        event.validate().map_err(PublisherError::Invalid)?;
        let data = serde_json::to_vec(event).map_err(|error| PublisherError::Encode(error.to_string()))?;
        let outgoing = Outgoing {
            id,
            source: &self.source,
            saga_id: event.saga_id(),
            causation_id: None,
            time: Timestamp::now(),
            trace,
            null_compensation: false,
        };
        Ok(self.namespace.place(envelope::seal(EventType::of::<E>(), data, &outgoing)))
    }

    async fn confirmed(&self, records: Vec<OutRecord>) -> Result<Vec<Result<(), PublishError>>, PublisherError> {
        let publish = async {
            let had_time = self.producer.writes_times();
            let mut outcomes = self.producer.publish(records.clone()).await;
            if had_time && !self.producer.writes_times() {
                // All were refused for their timestamp: this machine's clock is off.
                for (record, outcome) in records.into_iter().zip(&mut outcomes) {
                    if matches!(outcome, Err(PublishError::Unacknowledged(_)))
                        && let Some(again) = self.producer.publish(vec![record]).await.pop()
                    {
                        *outcome = again;
                    }
                }
            }
            outcomes
        };
        tokio::time::timeout(self.patience, publish).await.map_err(|_| PublisherError::TimedOut(self.patience))
    }
}

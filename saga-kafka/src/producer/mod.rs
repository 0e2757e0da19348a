//! Publishing records in order, with the broker's acknowledgement.

mod batch;
mod native;
mod quotas;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use saga_core::{
    record::OutRecord,
    transport::{MessagingNames, Producer, PublishError},
};

use crate::{KafkaConfig, KafkaError};
use batch::Batch;
use native::Connection;

/// An idempotent producer, acknowledged by all in-sync replicas; clones share its queue and its connections.
///
/// - [`Producer::publish`] never blocks. Its future resolves once for the whole call, and waits as long as the broker
///   is unreachable: a record that timed out would be sent again after later ones of its saga. Set `message.timeout.ms`
///   (`KAFKA_CFG_MESSAGE_TIMEOUT_MS`) to have it end in [`PublishError::Unacknowledged`] instead.
/// - A full queue refuses the record and all that follow in the same call, so that none overtakes another. Each
///   partition has its quota of the queue. A partition whose quota is full, for example because it has no leader,
///   refuses its own records of the call only.
/// - When a broker refuses a record's timestamp as too far from its own clock, later records are written without one.
///   The refused ones are [`PublishError::Unacknowledged`].
/// - When librdkafka's producer fails for good (it lost track of its sequence numbers, say), the next call gets a new
///   one. Unacknowledged records of the old one are [`PublishError::Unacknowledged`].
/// - Dropping the last clone discards what is not sent: call [`KafkaProducer::flush`] first.
#[derive(Clone)]
pub struct KafkaProducer {
    connection: Arc<Connection>,
}

impl KafkaProducer {
    /// Makes a producer, which connects at its first record.
    ///
    /// # Errors
    /// When the configuration contradicts itself.
    pub fn new(config: &KafkaConfig) -> Result<Self, KafkaError> {
        Ok(Self { connection: Arc::new(Connection::new(config)?) })
    }

    /// Waits until every record is acknowledged or refused. Returns false when that takes longer than `timeout`;
    /// nothing is discarded then.
    pub async fn flush(&self, timeout: Duration) -> bool {
        self.connection.idle(timeout).await
    }

    /// Whether records carry the time of this machine's clock; no longer, once a broker has refused it.
    pub fn writes_times(&self) -> bool {
        self.connection.writes_times()
    }

    /// Number of records in flight: neither acknowledged nor refused.
    pub fn in_flight(&self) -> usize {
        self.connection.in_flight()
    }
}

impl Producer for KafkaProducer {
    const NAMES: MessagingNames = MessagingNames { system: "kafka", offset: "messaging.kafka.offset" };

    fn publish(&self, records: Vec<OutRecord>) -> BoxFuture<'static, Vec<Result<(), PublishError>>> {
        let count = records.len();
        if count == 0 {
            return futures::future::ready(Vec::new()).boxed();
        }
        let (batch, outcomes) = Batch::new(count);
        self.connection.send(&records, &batch);
        async move {
            outcomes
                .await
                .unwrap_or_else(|_| vec![Err(PublishError::Unacknowledged("the producer is gone".into())); count])
        }
        .boxed()
    }

    fn room(&self) -> usize {
        self.connection.room()
    }
}

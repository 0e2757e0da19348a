//! Publishing records in order, with the broker's acknowledgement.

mod batch;
mod native;
mod quotas;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use saga_core::{
    record::OutRecord,
    transport::{Producer, PublishError},
};

use crate::{KafkaConfig, KafkaError};
use batch::Batch;
use native::Connection;

/// An idempotent producer, acknowledged by all in-sync replicas; clones share its queue and its connections.
///
/// - [`Producer::publish`] never blocks. Its future resolves once for the whole call, and waits as long as the broker is
///   away: a record that gave up would be sent again behind later ones of its saga. Set `message.timeout.ms`
///   (`KAFKA_CFG_MESSAGE_TIMEOUT_MS`) to have it end in [`PublishError::Unacknowledged`] instead.
/// - A full queue refuses the record and all that follow in the same call, so that none overtakes another. Each output
///   partition has its share of the queue: one that is full, because it has no leader for example, refuses the record and
///   those of the same partition that follow in the call. The others go on.
/// - When a broker refuses our records' time as too far from its own, records are written without one from then on; those
///   that were refused are [`PublishError::Unacknowledged`].
/// - When librdkafka's producer fails for good (it lost track of its sequence numbers, say), the next call goes to a new
///   one. What the old one had not got acknowledged is [`PublishError::Unacknowledged`].
/// - Dropped, the last clone gives up what is not sent: [`KafkaProducer::flush`] first.
#[derive(Clone)]
pub struct KafkaProducer {
    connection: Arc<Connection>,
}

impl KafkaProducer {
    /// A producer; it connects when it is needed.
    ///
    /// # Errors
    /// When the configuration contradicts itself.
    pub fn new(config: &KafkaConfig) -> Result<Self, KafkaError> {
        Ok(Self { connection: Arc::new(Connection::new(config)?) })
    }

    /// Waits until everything that was published is acknowledged or refused. False when it is not within this time;
    /// nothing is given up then.
    pub async fn flush(&self, timeout: Duration) -> bool {
        self.connection.idle(timeout).await
    }

    /// Whether records carry the time of this machine's clock. No more, once a broker has refused it.
    pub fn writes_times(&self) -> bool {
        self.connection.writes_times()
    }

    /// Records that are neither acknowledged nor refused yet.
    pub fn in_flight(&self) -> usize {
        self.connection.in_flight()
    }
}

impl Producer for KafkaProducer {
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

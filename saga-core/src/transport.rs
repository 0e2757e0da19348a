//! What the runtime asks of a message transport: ordered partitions, consumer groups, acknowledged publishing.

use std::future::Future;

use futures::future::BoxFuture;

use crate::record::{OutRecord, Record, TopicPartition};

/// The words of a transport in the attributes of spans, by the OpenTelemetry conventions for messaging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagingNames {
    /// The value of `messaging.system`.
    pub system: &'static str,
    /// The attribute that holds a record's offset.
    pub offset: &'static str,
}

/// Publishes records and reports the broker's acknowledgement.
pub trait Producer: Clone + Send + Sync + 'static {
    /// How spans name this transport.
    const NAMES: MessagingNames = MessagingNames { system: "other", offset: "messaging.other.offset" };

    /// Passes the records to the producer in this order, before it returns. The future completes when the broker has
    /// acknowledged or refused each of them; dropping it does not withdraw the records. Records with the same key keep
    /// their order.
    fn publish(&self, records: Vec<OutRecord>) -> BoxFuture<'static, Vec<Result<(), PublishError>>>;

    /// How many more records the producer takes now before it returns [`PublishError::Full`]; for a single partition
    /// that may be sooner.
    fn room(&self) -> usize {
        usize::MAX
    }
}

/// Why a record was not acknowledged.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PublishError {
    /// The local queue is full, or this partition's share of it. Neither this record nor later ones of the same call
    /// for the same partition were sent.
    #[error("the producer's queue is full")]
    Full,
    /// The result is unknown: the record may have been written. Send it again later.
    #[error("not acknowledged: {0}")]
    Unacknowledged(String),
    /// The broker can never write it as it is: too large, for example.
    #[error("refused by the broker: {0}")]
    Refused(String),
}

/// A member of the participant's consumer group.
pub trait Consumer: Send + 'static {
    /// The next signal. `room` is how many records the caller can take: with 0, only the other signals are delivered.
    /// Cancel safe. Never ends: a transport that cannot work reports [`Signal::Waiting`] and keeps trying.
    fn next(&mut self, room: usize) -> impl Future<Output = Signal> + Send;

    /// Stores these offsets as done, up to but excluding each of them. They are committed shortly after, and always
    /// before a partition is revoked or the consumer closes. An offset is the position of the next record to read.
    fn store_offsets(&self, offsets: &[(TopicPartition, i64)]);

    /// Stops or resumes fetching from these partitions; their buffered records are still delivered.
    fn pause(&self, partitions: &[TopicPartition], paused: bool);

    /// Commits what is stored and leaves the group.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// A signal from a consumer.
#[derive(Debug)]
pub enum Signal {
    /// Records in partition order, at most `room` of them and at least one.
    Records(Vec<Record>),
    /// These partitions are assigned to this member. Within an assignment offsets only grow: a partition with a new log
    /// (a topic that was deleted and created again) is revoked and assigned.
    Assigned(Vec<TopicPartition>),
    /// These partitions are being revoked: finish or drop their work, store the offsets, then drop the guard. The
    /// transport waits for the guard for a bounded time.
    Revoked(Vec<TopicPartition>, RevokeGuard),
    /// The broker cannot be reached, or a topic is missing; with the reason. Work in flight goes on.
    Waiting(String),
    /// After [`Signal::Waiting`]: the transport works again.
    Ready,
    /// The consumer can never work again (fenced, not authorised): the process must end. With the reason.
    Fatal(String),
}

/// Lets the rebalance go on when dropped.
#[derive(Debug)]
pub struct RevokeGuard(
    #[allow(dead_code, reason = "dropping it is the signal")] Option<std::sync::mpsc::SyncSender<()>>,
);

impl RevokeGuard {
    /// A guard, and a receiver that disconnects when the guard is dropped.
    pub fn new() -> (Self, std::sync::mpsc::Receiver<()>) {
        let (sender, receiver) = std::sync::mpsc::sync_channel(0);
        (Self(Some(sender)), receiver)
    }

    /// A guard that nothing waits for.
    pub fn unguarded() -> Self {
        Self(None)
    }
}

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

    /// Hands the records over in this order, before it returns. The future completes when the broker has acknowledged
    /// or refused each of them; dropping it does not take the records back. Records with the same key keep their order.
    fn publish(&self, records: Vec<OutRecord>) -> BoxFuture<'static, Vec<Result<(), PublishError>>>;

    /// How many more records the producer takes now before it answers [`PublishError::Full`]; for a single partition
    /// that may be sooner.
    fn room(&self) -> usize {
        usize::MAX
    }
}

/// Why a record was not acknowledged.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PublishError {
    /// The local queue is full, or this partition's share of it; the record was not sent. Nor were later ones of the
    /// same call that go to the same partition.
    #[error("the producer's queue is full")]
    Full,
    /// May have been written or not: send it again later.
    #[error("not acknowledged: {0}")]
    Unacknowledged(String),
    /// Can never be written as it is: too large, for one.
    #[error("refused by the broker: {0}")]
    Refused(String),
}

/// A member of the participant's consumer group.
pub trait Consumer: Send + 'static {
    /// The next thing that happened. `room` is how many records the caller can take: with 0 only the other signals are
    /// delivered. Cancel safe. Never ends: a transport that fails returns [`Signal::Waiting`] and tries on.
    fn next(&mut self, room: usize) -> impl Future<Output = Signal> + Send;

    /// Marks everything before these offsets as done. They are committed shortly after, and always before a partition
    /// is given away or the consumer closes. An offset is the position of the next record to read.
    fn store_offsets(&self, offsets: &[(TopicPartition, i64)]);

    /// Stops or resumes fetching from these partitions; their buffered records are still delivered.
    fn pause(&self, partitions: &[TopicPartition], paused: bool);

    /// Commits what is stored and leaves the group.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// What a consumer reports.
#[derive(Debug)]
pub enum Signal {
    /// Records in partition order, at most as many as there was room for; never empty.
    Records(Vec<Record>),
    /// These partitions are ours from now on. Within an assignment offsets only grow: a partition whose log is another than
    /// before (a topic that was deleted and made anew) is revoked and assigned.
    Assigned(Vec<TopicPartition>),
    /// These partitions are to be given away: finish or drop their work, store the offsets, then drop the guard.
    /// The transport waits for it for a bounded time only.
    Revoked(Vec<TopicPartition>, RevokeGuard),
    /// The broker cannot be reached, or a topic is missing: says why. Events in flight go on.
    Waiting(String),
    /// After [`Signal::Waiting`]: all is well again.
    Ready,
    /// The consumer can never work again (fenced, not authorised); the process must end. Says why.
    Fatal(String),
}

/// Lets a rebalance go on when dropped.
#[derive(Debug)]
pub struct RevokeGuard(
    #[allow(dead_code, reason = "dropping it is the signal")] Option<std::sync::mpsc::SyncSender<()>>,
);

impl RevokeGuard {
    /// A guard, and the receiver whose disconnection says that it was dropped.
    pub fn new() -> (Self, std::sync::mpsc::Receiver<()>) {
        let (sender, receiver) = std::sync::mpsc::sync_channel(0);
        (Self(Some(sender)), receiver)
    }

    /// A guard that nobody waits for.
    pub fn unguarded() -> Self {
        Self(None)
    }
}

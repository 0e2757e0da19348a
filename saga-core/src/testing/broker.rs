//! A broker in memory: partitioned topics, consumer groups that share partitions, committed offsets.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Receiver, mpsc::TryRecvError},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::Notify;

use crate::{
    record::{OutRecord, Record, TopicPartition},
    transport::{Consumer, Producer, PublishError, RevokeGuard, Signal},
};

/// An in-memory broker. A clone is a handle to the same broker.
#[derive(Clone)]
pub struct MemoryBroker(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    partitions: i32,
}

#[derive(Default)]
struct State {
    logs: BTreeMap<TopicPartition, Vec<Record>>,
    /// All records, in the order of writing.
    history: Vec<Record>,
    groups: BTreeMap<String, Group>,
    members: u64,
    /// The number of publications that will still fail.
    refusals: usize,
}

#[derive(Default)]
struct Group {
    topics: BTreeSet<String>,
    committed: BTreeMap<TopicPartition, i64>,
    members: BTreeMap<u64, Member>,
}

#[derive(Default)]
struct Member {
    owned: BTreeMap<TopicPartition, i64>,
    signals: VecDeque<Signal>,
    /// Partitions that this member gets as soon as their old owner has released them.
    coming: Vec<(TopicPartition, Option<Released>)>,
    paused: BTreeSet<TopicPartition>,
}

/// Disconnected as soon as the old owner has released the partition.
type Released = Arc<Mutex<Receiver<()>>>;

impl MemoryBroker {
    /// A broker with this many partitions for each topic; a topic exists from its first use.
    pub fn new(partitions: i32) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), changed: Notify::new(), partitions }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A producer of this broker.
    pub fn producer(&self) -> MemoryProducer {
        MemoryProducer(self.clone())
    }

    /// A new member of the group.
    pub fn subscribe(&self, group: &str, topics: &[String]) -> MemoryConsumer {
        let mut state = self.state();
        state.members += 1;
        let member = state.members;
        for partition in topics.iter().flat_map(|topic| (0..self.0.partitions).map(move |p| (topic, p))) {
            state
                .logs
                .entry(TopicPartition { topic: partition.0.as_str().into(), partition: partition.1 })
                .or_default();
        }
        let entry = state.groups.entry(group.to_owned()).or_default();
        entry.topics.extend(topics.iter().cloned());
        entry.members.insert(member, Member::default());
        state.rebalance(group);
        drop(state);
        self.0.changed.notify_waiters();
        MemoryConsumer { broker: self.clone(), group: group.to_owned(), member }
    }

    /// All records of a topic, partition after partition.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        self.state().logs.iter().filter(|(p, _)| &*p.topic == topic).flat_map(|(_, log)| log.clone()).collect()
    }

    /// All records of all topics, in the order of writing.
    pub fn history(&self) -> Vec<Record> {
        self.state().history.clone()
    }

    /// The next `count` publications are not acknowledged.
    pub fn refuse(&self, count: usize) {
        self.state().refusals = count;
    }

    /// Appends a record unchanged.
    pub fn append(&self, record: OutRecord) {
        self.state().append(record, self.0.partitions);
        self.0.changed.notify_waiters();
    }

    /// Whether the group has committed everything in the topics it consumes.
    pub fn is_caught_up(&self, group: &str) -> bool {
        let state = self.state();
        let Some(group) = state.groups.get(group) else { return true };
        state.logs.iter().filter(|(p, _)| group.topics.contains(&*p.topic)).all(|(partition, log)| {
            group.committed.get(partition).copied().unwrap_or(0) >= i64::try_from(log.len()).unwrap_or(i64::MAX)
        })
    }
}

impl State {
    fn append(&mut self, record: OutRecord, partitions: i32) {
        let hash =
            record.key.iter().flatten().fold(0u32, |hash, byte| hash.wrapping_mul(31).wrapping_add((*byte).into()));
        #[allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "partitions is small and positive")]
        let number = (hash % partitions as u32) as i32;
        let partition = TopicPartition { topic: record.topic.as_ref().into(), partition: number };
        let log = self.logs.entry(partition.clone()).or_default();
        let offset = i64::try_from(log.len()).unwrap_or(i64::MAX);
        let OutRecord { key, value, headers, .. } = record;
        let record = Record { topic: partition.topic, partition: number, offset, key, value, headers };
        log.push(record.clone());
        self.history.push(record);
    }

    /// Spreads the group's partitions evenly; partitions move only when they must.
    fn rebalance(&mut self, group: &str) {
        let Some(group) = self.groups.get_mut(group) else { return };
        let partitions: Vec<TopicPartition> =
            self.logs.keys().filter(|p| group.topics.contains(&*p.topic)).cloned().collect();
        let ids: Vec<u64> = group.members.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let wanted = |i: usize| ids[i % ids.len()];
        let mut gone: BTreeMap<TopicPartition, Released> = BTreeMap::new();
        for (id, member) in &mut group.members {
            let lost: Vec<TopicPartition> = partitions
                .iter()
                .enumerate()
                .filter(|(i, p)| wanted(*i) != *id && member.owned.contains_key(*p))
                .map(|(_, p)| p.clone())
                .collect();
            member.coming.retain(|(p, _)| partitions.iter().position(|q| q == p).map(wanted) == Some(*id));
            if lost.is_empty() {
                continue;
            }
            let (guard, released) = RevokeGuard::new();
            let released = Arc::new(Mutex::new(released));
            for partition in &lost {
                member.owned.remove(partition);
                gone.insert(partition.clone(), released.clone());
            }
            member.signals.push_back(Signal::Revoked(lost, guard));
        }
        for (i, partition) in partitions.iter().enumerate() {
            let Some(member) = group.members.get_mut(&wanted(i)) else { continue };
            if !member.owned.contains_key(partition) && !member.coming.iter().any(|(p, _)| p == partition) {
                member.coming.push((partition.clone(), gone.remove(partition)));
            }
        }
    }
}

/// A producer on a [`MemoryBroker`].
#[derive(Clone)]
pub struct MemoryProducer(MemoryBroker);

impl Producer for MemoryProducer {
    fn publish(&self, records: Vec<OutRecord>) -> BoxFuture<'static, Vec<Result<(), PublishError>>> {
        let mut state = self.0.state();
        let mut results = Vec::with_capacity(records.len());
        for record in records {
            if state.refusals > 0 {
                state.refusals -= 1;
                results.push(Err(PublishError::Unacknowledged("injected".to_owned())));
            } else {
                state.append(record, self.0.0.partitions);
                results.push(Ok(()));
            }
        }
        drop(state);
        self.0.0.changed.notify_waiters();
        futures::future::ready(results).boxed()
    }
}

/// A member of a group on a [`MemoryBroker`]. Dropping it without [`Consumer::close`] simulates a crash: its stored
/// offsets are committed nevertheless, as if a commit had happened just before.
pub struct MemoryConsumer {
    broker: MemoryBroker,
    group: String,
    member: u64,
}

impl MemoryConsumer {
    fn poll(&self, room: usize) -> Option<Signal> {
        let mut state = self.broker.state();
        let State { logs, groups, .. } = &mut *state;
        let group = groups.get_mut(&self.group)?;
        let member = group.members.get_mut(&self.member)?;
        if let Some(signal) = member.signals.pop_front() {
            return Some(signal);
        }
        let (arrived, coming): (Vec<_>, Vec<_>) =
            std::mem::take(&mut member.coming).into_iter().partition(|(_, released)| {
                released.as_ref().is_none_or(|r| {
                    matches!(
                        r.lock().unwrap_or_else(PoisonError::into_inner).try_recv(),
                        Err(TryRecvError::Disconnected)
                    )
                })
            });
        member.coming = coming;
        if !arrived.is_empty() {
            let arrived: Vec<TopicPartition> = arrived.into_iter().map(|(partition, _)| partition).collect();
            for partition in &arrived {
                member.owned.insert(partition.clone(), group.committed.get(partition).copied().unwrap_or(0));
            }
            return Some(Signal::Assigned(arrived));
        }
        let mut records = Vec::new();
        for (partition, position) in &mut member.owned {
            if member.paused.contains(partition) {
                continue;
            }
            let log = logs.get(partition)?;
            let start = usize::try_from(*position).unwrap_or(0).min(log.len());
            let taken = &log[start..log.len().min(start + (room - records.len()))];
            *position += i64::try_from(taken.len()).unwrap_or(0);
            records.extend(taken.iter().cloned());
        }
        (!records.is_empty()).then_some(Signal::Records(records))
    }

    fn leave(&self) {
        let mut state = self.broker.state();
        if let Some(group) = state.groups.get_mut(&self.group) {
            group.members.remove(&self.member);
        }
        state.rebalance(&self.group);
        drop(state);
        self.broker.0.changed.notify_waiters();
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Consumer for MemoryConsumer {
    async fn next(&mut self, room: usize) -> Signal {
        loop {
            let broker = self.broker.clone();
            let changed = broker.0.changed.notified();
            if let Some(signal) = self.poll(room) {
                return signal;
            }
            // Another member's release of a partition sends no notification.
            let _ = tokio::time::timeout(Duration::from_millis(10), changed).await;
        }
    }

    fn store_offsets(&self, offsets: &[(TopicPartition, i64)]) {
        let mut state = self.broker.state();
        if let Some(group) = state.groups.get_mut(&self.group) {
            group.committed.extend(offsets.iter().cloned());
        }
    }

    fn pause(&self, partitions: &[TopicPartition], paused: bool) {
        let mut state = self.broker.state();
        let member = state.groups.get_mut(&self.group).and_then(|group| group.members.get_mut(&self.member));
        if let Some(member) = member {
            for partition in partitions {
                if paused {
                    member.paused.insert(partition.clone());
                } else {
                    member.paused.remove(partition);
                }
            }
        }
    }

    async fn close(self) {}
}

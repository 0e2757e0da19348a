//! A consumer as the runtime uses it: takes signals, lets partitions go, stores offsets when it is told.

use std::{collections::BTreeSet, time::Duration};

use saga_core::{
    record::{Record, TopicPartition},
    transport::{Consumer, Signal},
};
use saga_kafka::KafkaConsumer;

use super::PATIENCE;

pub(crate) struct Reader {
    pub(crate) consumer: KafkaConsumer,
    pub(crate) records: Vec<Record>,
    pub(crate) assigned: BTreeSet<TopicPartition>,
    pub(crate) revoked: BTreeSet<TopicPartition>,
    /// `Waiting` with its reason, `Ready` without.
    pub(crate) health: Vec<Option<String>>,
    pub(crate) fatal: Option<String>,
}

impl Reader {
    pub(crate) fn new(consumer: KafkaConsumer) -> Self {
        Self {
            consumer,
            records: Vec::new(),
            assigned: BTreeSet::new(),
            revoked: BTreeSet::new(),
            health: Vec::new(),
            fatal: None,
        }
    }

    /// Takes one signal; false when none comes within this time.
    pub(crate) async fn step(&mut self, room: usize, within: Duration) -> bool {
        match tokio::time::timeout(within, self.consumer.next(room)).await {
            Err(_) => return false,
            Ok(Signal::Records(records)) => {
                assert!((1..=room).contains(&records.len()), "{} records, room for {room}", records.len());
                for record in &records {
                    assert!(
                        self.assigned.contains(&record.topic_partition()),
                        "{} is not ours",
                        record.topic_partition()
                    );
                }
                self.records.extend(records);
            }
            Ok(Signal::Assigned(partitions)) => self.assigned.extend(partitions),
            Ok(Signal::Revoked(partitions, guard)) => {
                for partition in partitions {
                    self.assigned.remove(&partition);
                    self.revoked.insert(partition);
                }
                drop(guard);
            }
            Ok(Signal::Waiting(why)) => self.health.push(Some(why)),
            Ok(Signal::Ready) => self.health.push(None),
            Ok(Signal::Fatal(why)) => self.fatal = Some(why),
        }
        true
    }

    /// Takes signals until the condition holds.
    pub(crate) async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !condition(self) {
                self.step(1_000, PATIENCE).await;
            }
        });
        if waited.await.is_err() {
            panic!(
                "not within {PATIENCE:?}: {what}; {} records, assigned {:?}, revoked {:?}, health {:?}, fatal {:?}",
                self.records.len(),
                self.assigned,
                self.revoked,
                self.health,
                self.fatal
            );
        }
    }

    pub(crate) async fn read(&mut self, count: usize) -> &[Record] {
        self.until(&format!("{count} records"), |reader| reader.records.len() >= count).await;
        assert_eq!(self.records.len(), count);
        &self.records
    }

    /// Stores the offsets after everything read so far.
    pub(crate) fn store(&self) {
        let mut next = std::collections::BTreeMap::new();
        for record in &self.records {
            next.insert(record.topic_partition(), record.offset + 1);
        }
        self.consumer.store_offsets(&next.into_iter().collect::<Vec<_>>());
    }

    pub(crate) fn values(&self) -> Vec<String> {
        self.records
            .iter()
            .map(|record| String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned())
            .collect()
    }

    /// The last thing that was said about health.
    pub(crate) fn waiting(&self) -> Option<&str> {
        self.health.last().and_then(|why| why.as_deref())
    }

    pub(crate) async fn close(self) {
        self.consumer.close().await;
    }
}

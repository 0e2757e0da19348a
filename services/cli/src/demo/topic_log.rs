//! All records of the topics, read by the demo's own consumer.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use order_flow_events::OrderCancellationRequested;
use saga_core::{
    Event as _,
    graph::{Choreography, Ending},
    record::Record,
    transport::{Consumer, Signal},
};
use saga_kafka::{KafkaConfig, KafkaConsumer, KafkaError};
use tokio::{sync::Notify, task::JoinHandle};
use uuid::Uuid;

use saga_tools::event::{self, Event, is_dead_letter};

/// The demo's own consumer group, so that it takes no partition from a service.
const GROUP: &str = "saga-demo";

/// A record with its event.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) record: Record,
    /// None for a dead letter and for an unreadable record.
    pub(crate) event: Option<Event>,
}

impl Entry {
    pub(crate) fn of(record: Record) -> Self {
        let event = if is_dead_letter(&record) { None } else { event::read(&record, None).ok() };
        Self { record, event }
    }
}

/// Everything read so far.
#[derive(Default)]
pub(crate) struct TopicLog {
    pub(crate) entries: Vec<Entry>,
    /// The events that end a saga, and how.
    endings: HashMap<String, Ending>,
    ended: HashMap<Uuid, (Ending, Instant)>,
    cancellation_requested: HashSet<Uuid>,
}

impl TopicLog {
    pub(crate) fn of(flow: &Choreography) -> Self {
        let end = |(key, node): (saga_core::graph::EventKey, &saga_core::graph::EventNode)| {
            node.end.map(|end| (key.name.to_owned(), end))
        };
        Self { endings: flow.events().filter_map(end).collect(), ..Self::default() }
    }

    pub(crate) fn add(&mut self, record: Record, read_at: Instant) {
        let entry = Entry::of(record);
        if let Some(event) = &entry.event {
            if let Some(end) = self.endings.get(&event.kind) {
                self.ended.entry(event.saga).or_insert((*end, read_at));
            }
            if event.kind == OrderCancellationRequested::NAME {
                self.cancellation_requested.insert(event.saga);
            }
        }
        self.entries.push(entry);
    }

    /// How and when the saga ended, if it has.
    pub(crate) fn end(&self, saga: Uuid) -> Option<(Ending, Instant)> {
        self.ended.get(&saga).copied()
    }

    pub(crate) fn ended(&self, how: Ending) -> usize {
        self.ended.values().filter(|(end, _)| *end == how).count()
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.entries.iter().filter_map(|entry| entry.event.as_ref())
    }

    pub(crate) fn dead_letters(&self) -> impl Iterator<Item = &Record> {
        self.entries.iter().map(|entry| &entry.record).filter(|record| is_dead_letter(record))
    }

    /// Each saga's events sorted by time; repeated events count once.
    pub(crate) fn by_saga(&self) -> BTreeMap<Uuid, Vec<&Event>> {
        let (mut sagas, mut seen): (BTreeMap<Uuid, Vec<&Event>>, _) = (BTreeMap::new(), BTreeSet::new());
        for event in self.events().filter(|event| seen.insert(&event.id)) {
            sagas.entry(event.saga).or_default().push(event);
        }
        sagas.values_mut().for_each(|events| events.sort_by_key(|event| event.at));
        sagas
    }

    /// Whether a cancellation of the order was requested.
    pub(crate) fn has_cancellation_request(&self, saga: Uuid) -> bool {
        self.cancellation_requested.contains(&saga)
    }
}

/// Reads the topics until it is dropped.
pub(crate) struct TopicObserver {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    log: Mutex<TopicLog>,
    changed: Notify,
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, TopicLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TopicObserver {
    pub(crate) fn start(kafka: &KafkaConfig, topics: &[String], flow: &Choreography) -> Result<Self, KafkaError> {
        let mut consumer = KafkaConsumer::subscribe(kafka, GROUP, topics)?;
        let shared = Arc::new(Shared { log: Mutex::new(TopicLog::of(flow)), changed: Notify::new() });
        let shared_log = shared.clone();
        let task = tokio::spawn(async move {
            loop {
                if let Signal::Records(records) = consumer.next(1000).await {
                    let read_at = Instant::now();
                    let mut log = shared_log.log();
                    records.into_iter().for_each(|record| log.add(record, read_at));
                    drop(log);
                    shared_log.changed.notify_waiters();
                }
            }
        });
        Ok(Self { shared, task })
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, TopicLog> {
        self.shared.log()
    }

    /// Waits for a new record, at most this long.
    pub(crate) async fn changed(&self, at_most: std::time::Duration) {
        // A timeout is fine.
        let _ = tokio::time::timeout(at_most, self.shared.changed.notified()).await;
    }
}

impl Drop for TopicObserver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

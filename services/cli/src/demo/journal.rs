//! What the topics hold: every record, as the demo's own consumer reads it.

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

/// The consumer group: the demo looks on, it takes nothing from anyone.
const GROUP: &str = "saga-demo";

/// A record, and the event in it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) record: Record,
    /// None for a dead letter, and for a record without a readable type.
    pub(crate) event: Option<Event>,
}

impl Entry {
    pub(crate) fn of(record: Record) -> Self {
        let event = if is_dead_letter(&record) { None } else { event::read(&record, None).ok() };
        Self { record, event }
    }
}

/// Everything that was read so far.
#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) entries: Vec<Entry>,
    /// Which events end a saga, and how.
    endings: HashMap<String, Ending>,
    ended: HashMap<Uuid, (Ending, Instant)>,
    called_off: HashSet<Uuid>,
}

impl Journal {
    pub(crate) fn of(flow: &Choreography) -> Self {
        let end = |(key, node): (saga_core::graph::EventKey, &saga_core::graph::EventNode)| {
            node.end.map(|end| (key.name.to_owned(), end))
        };
        Self { endings: flow.events().filter_map(end).collect(), ..Self::default() }
    }

    pub(crate) fn add(&mut self, record: Record, seen: Instant) {
        let entry = Entry::of(record);
        if let Some(event) = &entry.event {
            if let Some(end) = self.endings.get(&event.kind) {
                self.ended.entry(event.saga).or_insert((*end, seen));
            }
            if event.kind == OrderCancellationRequested::NAME {
                self.called_off.insert(event.saga);
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

    /// Each saga's events, in the order of their times; one that was published twice counts once.
    pub(crate) fn by_saga(&self) -> BTreeMap<Uuid, Vec<&Event>> {
        let (mut sagas, mut seen): (BTreeMap<Uuid, Vec<&Event>>, _) = (BTreeMap::new(), BTreeSet::new());
        for event in self.events().filter(|event| seen.insert(&event.id)) {
            sagas.entry(event.saga).or_default().push(event);
        }
        sagas.values_mut().for_each(|events| events.sort_by_key(|event| event.at));
        sagas
    }

    /// Whether somebody, or the deadline, has asked for the order to be undone.
    pub(crate) fn is_called_off(&self, saga: Uuid) -> bool {
        self.called_off.contains(&saga)
    }
}

/// Reads the topics for as long as it lives.
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    journal: Mutex<Journal>,
    changed: Notify,
}

impl Shared {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    pub(crate) fn start(kafka: &KafkaConfig, topics: &[String], flow: &Choreography) -> Result<Self, KafkaError> {
        let mut consumer = KafkaConsumer::subscribe(kafka, GROUP, topics)?;
        let shared = Arc::new(Shared { journal: Mutex::new(Journal::of(flow)), changed: Notify::new() });
        let journal = shared.clone();
        let task = tokio::spawn(async move {
            loop {
                if let Signal::Records(records) = consumer.next(1000).await {
                    let seen = Instant::now();
                    let mut written = journal.journal();
                    records.into_iter().for_each(|record| written.add(record, seen));
                    drop(written);
                    journal.changed.notify_waiters();
                }
            }
        });
        Ok(Self { shared, task })
    }

    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.shared.journal()
    }

    /// Waits until something is read, or this long.
    pub(crate) async fn changed(&self, at_most: std::time::Duration) {
        // That nothing came is an answer too.
        let _ = tokio::time::timeout(at_most, self.shared.changed.notified()).await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

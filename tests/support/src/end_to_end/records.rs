//! Every record on the broker of a world, and records made by hand.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use saga_core::{
    record::{Header, OutRecord, Record},
    transport::{Consumer, Producer, Signal},
};
use saga_kafka::{KafkaConsumer, KafkaProducer};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Who, World,
    broker::{Broker, DEAD_LETTERS, TOPICS},
};
use crate::{PATIENCE, eventually};

/// Marks a record that a test has made.
const MARK: &str = "test-mark";

/// Where a record stands.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each is the part of its name")]
pub struct Place {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

impl Place {
    fn of(record: &Record) -> Self {
        Self { topic: record.topic.to_string(), partition: record.partition, offset: record.offset }
    }
}

/// An event as it stood on the broker.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The record itself.
    pub record: Arc<Record>,
    /// `ce_id`, or its place when it has none.
    pub id: String,
    /// `ce_type`.
    pub event_type: String,
    /// The data, null when it is not JSON.
    pub data: Value,
}

impl Seen {
    fn of(record: &Arc<Record>) -> Self {
        let place = || format!("{}/{}/{}", record.topic, record.partition, record.offset);
        Self {
            id: header(record, "ce_id").unwrap_or_else(place),
            event_type: header(record, "ce_type").unwrap_or_default(),
            data: serde_json::from_slice(record.value.as_deref().unwrap_or_default()).unwrap_or_default(),
            record: record.clone(),
        }
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.record, name)
    }

    /// The id of the event that this one follows from.
    pub fn cause(&self) -> String {
        self.header("ce_causationid").unwrap_or_default()
    }

    /// Whether it says that there was nothing to undo.
    pub fn is_null_compensation(&self) -> bool {
        self.header("ce_nullcompensation").as_deref() == Some("true")
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        Place::of(&self.record)
    }
}

/// The last header of this name.
pub fn header(record: &Record, name: &str) -> Option<String> {
    let header = record.headers.iter().rev().find(|header| header.is(name))?;
    Some(String::from_utf8_lossy(header.value.as_deref()?).into_owned())
}

/// Reads all topics from their beginning, and writes what tests make by hand.
pub(crate) struct Records {
    seen: Arc<Mutex<Vec<Arc<Record>>>>,
    producer: KafkaProducer,
    /// By group: a client that asks for its offsets and never joins it.
    groups: HashMap<Who, Arc<BaseConsumer>>,
}

impl Records {
    pub(crate) fn read(broker: &Broker) -> Result<Self> {
        // After an outage the group waits this long for the reader that it was before.
        let config = broker.config().with_property("session.timeout.ms", "6000")?;
        let topics: Vec<String> = TOPICS.into_iter().chain(DEAD_LETTERS).map(str::to_owned).collect();
        let group = format!("saga-tests-{}", Uuid::new_v4());
        let mut consumer = KafkaConsumer::subscribe(&config, &group, &topics)?;
        let seen: Arc<Mutex<Vec<Arc<Record>>>> = Arc::default();
        let all = seen.clone();
        tokio::spawn(async move {
            loop {
                if let Signal::Records(records) = consumer.next(1000).await {
                    lock(&all).extend(records.into_iter().map(Arc::new));
                }
            }
        });
        let groups = Who::ALL.into_iter().map(|who| {
            let mut client = ClientConfig::new();
            client.set("bootstrap.servers", broker.bootstrap_servers()).set("group.id", who.name());
            Ok((who, Arc::new(client.create()?)))
        });
        Ok(Self { seen, producer: KafkaProducer::new(&config)?, groups: groups.collect::<Result<_>>()? })
    }

    fn all(&self, wanted: impl Fn(&Record) -> bool) -> Vec<Arc<Record>> {
        lock(&self.seen).iter().filter(|record| wanted(record)).cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_of(record: &Record, saga: Uuid) -> bool {
    record.key.as_deref() == Some(saga.to_string().as_bytes())
}

impl World {
    /// Writes a record and waits until it was seen on the broker.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn produce(&self, mut record: OutRecord) -> Result<Place> {
        let mark = Uuid::new_v4().to_string();
        record.headers.push(Header::text(MARK, mark.clone()));
        let topic = record.topic.to_string();
        let outcomes = tokio::time::timeout(PATIENCE, self.records.producer.publish(vec![record])).await?;
        outcomes.into_iter().collect::<Result<Vec<()>, _>>()?;
        eventually(PATIENCE, "the record is on the broker", async || {
            let ours = |record: &Record| *record.topic == *topic && header(record, MARK).as_ref() == Some(&mark);
            self.records.all(ours).first().map(|record| Place::of(record)).context("not seen")
        })
        .await
    }

    /// Writes records and waits until the broker has them.
    ///
    /// # Errors
    /// When it does not take one of them.
    pub async fn publish(&self, records: Vec<OutRecord>) -> Result<()> {
        let outcomes = tokio::time::timeout(PATIENCE, self.records.producer.publish(records)).await?;
        outcomes.into_iter().collect::<Result<(), _>>()?;
        Ok(())
    }

    /// Waits until the service is done with the record at this place, and with everything before it.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn done(&self, who: Who, place: &Place) -> Result<()> {
        let group = self.records.groups.get(&who).context("no group")?;
        eventually(PATIENCE, &format!("{who} is done with {place:?}"), async || {
            let (group, asked) = (group.clone(), place.clone());
            let committed = tokio::task::spawn_blocking(move || {
                let mut list = TopicPartitionList::new();
                list.add_partition(&asked.topic, asked.partition);
                group.committed_offsets(list, Duration::from_secs(5))
            });
            match committed
                .await??
                .elements()
                .first()
                .map(rdkafka::topic_partition_list::TopicPartitionListElem::offset)
            {
                Some(Offset::Offset(next)) if next > place.offset => Ok(()),
                other => bail!("committed: {other:?}"),
            }
        })
        .await
    }

    /// Every event of the saga so far, topic by topic in order. What a crash wrote twice under one id counts once.
    pub fn history(&self, saga: Uuid) -> Vec<Seen> {
        self.events(saga, |_| true)
    }

    fn events(&self, saga: Uuid, wanted: impl Fn(&Record) -> bool) -> Vec<Seen> {
        let mut history: Vec<Seen> = Vec::new();
        let wanted = |record: &Record| is_of(record, saga) && record.topic.ends_with(".events") && wanted(record);
        for record in self.records.all(wanted) {
            let event = Seen::of(&record);
            if !history.iter().any(|other| other.id == event.id) {
                history.push(event);
            }
        }
        history
    }

    /// How many different events of this type the saga has so far.
    pub fn count(&self, saga: Uuid, event_type: &str) -> usize {
        self.events(saga, |record| header(record, "ce_type").as_deref() == Some(event_type)).len()
    }

    /// How many records of this type there are so far, of all sagas.
    pub fn total(&self, event_type: &str) -> usize {
        self.records.all(|record| header(record, "ce_type").as_deref() == Some(event_type)).len()
    }

    /// The partition of each saga that has a record of this type so far.
    pub fn partitions_by_saga(&self, event_type: &str) -> HashMap<Uuid, i32> {
        let of_type = self.records.all(|record| header(record, "ce_type").as_deref() == Some(event_type));
        of_type.iter().filter_map(|record| Some((record.saga_id()?.as_uuid(), record.partition))).collect()
    }

    /// The types of the saga's events so far, sorted.
    pub fn types(&self, saga: Uuid) -> Vec<String> {
        let mut types: Vec<String> = self.history(saga).into_iter().map(|event| event.event_type).collect();
        types.sort();
        types
    }

    /// Waits for the saga's only event of this type.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub async fn event(&self, saga: Uuid, event_type: &str) -> Result<Seen> {
        eventually(PATIENCE, &format!("{event_type} of {saga}"), async || {
            let mut events: Vec<Seen> =
                self.history(saga).into_iter().filter(|event| event.event_type == event_type).collect();
            ensure!(events.len() == 1, "{} of {:?}", events.len(), self.types(saga));
            events.pop().context("none")
        })
        .await
    }

    /// The participant's dead letters of the record that stood at this place.
    pub fn letters(&self, who: Who, place: &Place) -> Vec<Arc<Record>> {
        let topic = format!("{who}.dlq");
        self.records.all(|letter| {
            let says = |name: &str, value: &str| header(letter, name).as_deref() == Some(value);
            *letter.topic == *topic
                && says("__dlq.errors.topic", &place.topic)
                && says("__dlq.errors.partition", &place.partition.to_string())
                && says("__dlq.errors.offset", &place.offset.to_string())
        })
    }

    /// All dead letters with the saga's key.
    pub fn letters_of(&self, saga: Uuid) -> Vec<Arc<Record>> {
        self.records.all(|record| is_of(record, saga) && record.topic.ends_with(".dlq"))
    }

    /// All events whose data belongs to this customer.
    pub fn of_customer(&self, customer: Uuid) -> Vec<Seen> {
        let of_customer = |event: &Seen| event.data["customer_id"] == customer.to_string();
        self.records.all(|record| &*record.topic == "order.events").iter().map(Seen::of).filter(of_customer).collect()
    }
}

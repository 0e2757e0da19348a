//! librdkafka's producer, the thread that serves it, and its replacement when it fails for good.

use std::{
    ffi::CString,
    ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, IntoOpaque,
    bindings::{self as ffi, rd_kafka_vtype_t as vtype},
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::KafkaError as NativeError,
    message::DeliveryResult,
    producer::{BaseProducer, NoCustomPartitioner, Producer, ProducerContext},
    types::{RDKafkaErrorCode as Code, RDKafkaRespErr},
};
use saga_core::{record::OutRecord, transport::PublishError};
use tokio::sync::Notify;

use super::{
    batch::{Batch, Delivery, publish_error},
    quotas::{Quota, Quotas},
};
use crate::{KafkaConfig, KafkaError, record::NativeHeaders};

/// How long a poll waits for reports.
const IDLE: Duration = Duration::from_millis(100);
/// Time for a failed producer to report its records, which it does at once.
const DRAIN: Duration = Duration::from_secs(5);

/// How often the partitions of all topics are counted again.
const COUNT_EVERY: Duration = Duration::from_secs(60);
/// Time limit of a question for a topic's partitions.
const METADATA: Duration = Duration::from_secs(1);

type Client = BaseProducer<Context>;

/// Counts the records that are neither acknowledged nor refused.
#[derive(Default)]
struct InFlight {
    count: AtomicUsize,
    none: Notify,
}

impl InFlight {
    fn one_less(&self) {
        if self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.none.notify_waiters();
        }
    }
}

struct Context {
    in_flight: Arc<InFlight>,
    clock: Arc<Clock>,
}

/// Whether records carry a time: until a broker refuses it as too far from its own.
#[derive(Default)]
struct Clock {
    is_refused: AtomicBool,
}

impl Clock {
    fn refused(&self, code: Code) {
        if !self.is_refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "Kafka: the broker refuses records, as it does when this machine's clock is far from its own. From now on \
                 they are written without a time of ours: {code}"
            );
        }
    }

    /// The timestamp for librdkafka: 0 stands for now, -1 for none, which every topic accepts.
    fn time(&self) -> i64 {
        if self.is_refused.load(Ordering::Relaxed) { -1 } else { 0 }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::log::line(level, facility, message);
    }

    fn error(&self, error: NativeError, reason: &str) {
        tracing::info!("Kafka producer: {error}: {reason}");
    }
}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = Box<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Box<Delivery>) {
        let outcome = match result.as_ref().map_err(|(error, _)| (error.rdkafka_error_code(), error)) {
            Ok(_) => Ok(()),
            // For one of several such records in a batch, the client reports only that it is invalid.
            Err((Some(code @ (Code::InvalidTimestamp | Code::InvalidRecord)), _)) if delivery.has_time => {
                self.clock.refused(code);
                Err(PublishError::Unacknowledged(code.to_string()))
            }
            Err((Some(code), _)) => Err(publish_error(code)),
            Err((None, error)) => Err(PublishError::Unacknowledged(error.to_string())),
        };
        // First, so that the caller finds room when it wakes.
        self.in_flight.one_less();
        delivery.decide(outcome);
    }
}

pub(super) struct Connection {
    config: KafkaConfig,
    /// The producer in use. The lock is held while a call's records are queued, so that calls do not mix.
    served: Mutex<Served>,
    common: Common,
    max_in_flight: usize,
}

/// State that survives the replacement of a producer.
#[derive(Clone)]
struct Common {
    in_flight: Arc<InFlight>,
    clock: Arc<Clock>,
    quotas: Arc<Mutex<Quotas>>,
}

impl Common {
    fn quotas(&self) -> MutexGuard<'_, Quotas> {
        self.quotas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A producer and the thread that polls its reports.
struct Served {
    client: Arc<Client>,
    stop: Arc<AtomicBool>,
}

impl Connection {
    pub(super) fn new(config: &KafkaConfig) -> Result<Self, KafkaError> {
        let max_in_flight = config.producer_queue();
        let quotas = Quotas::new(max_in_flight, config.producer_queue_bytes());
        let common = Common { in_flight: Arc::default(), clock: Arc::default(), quotas: Arc::new(Mutex::new(quotas)) };
        let served = Served::start(config, &common)?;
        Ok(Self { config: config.clone(), served: Mutex::new(served), common, max_in_flight })
    }

    /// Queues the records in their order. Each is refused now or decided by its delivery report.
    pub(super) fn send(&self, records: &[OutRecord], batch: &Arc<Batch>) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace_if_failed(&mut served);
        let mut quotas = self.common.quotas();
        let time = self.common.clock.time();
        // After a refusal, later records of the same partition are refused too: none overtakes another.
        let mut full = false;
        let mut full_shares: Vec<Arc<Quota>> = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let mut delivery = batch.delivery(index);
            delivery.has_time = time == 0;
            full = full || self.room() == 0;
            let quota = quotas.of(record);
            let is_full = full || full_shares.iter().any(|full| Arc::ptr_eq(full, &quota));
            delivery.reservation = if is_full { None } else { quotas.take(quota.clone(), record) };
            if delivery.reservation.is_none() {
                if !is_full {
                    full_shares.push(quota);
                }
                delivery.decide(Err(PublishError::Full));
                continue;
            }
            // Counted before it is queued: the report may come before `produce` returns.
            self.common.in_flight.count.fetch_add(1, Ordering::AcqRel);
            if let Err((error, delivery)) = produce(&served.client, record, time, Box::new(delivery)) {
                full = error == PublishError::Full;
                self.common.in_flight.one_less();
                delivery.decide(Err(error));
            }
        }
    }

    fn replace_if_failed(&self, served: &mut Served) {
        let Some((code, reason)) = served.client.client().fatal_error() else { return };
        tracing::error!("Kafka: the producer failed for good and is replaced: {code}: {reason}");
        match Served::start(&self.config, &self.common) {
            Ok(new) => *served = new,
            // The old producer refuses the records, and the caller publishes them again.
            Err(error) => tracing::error!("Kafka: the producer cannot be replaced: {error}"),
        }
    }

    pub(super) fn writes_times(&self) -> bool {
        self.common.clock.time() == 0
    }

    pub(super) fn in_flight(&self) -> usize {
        self.common.in_flight.count.load(Ordering::Acquire)
    }

    pub(super) fn room(&self) -> usize {
        self.max_in_flight.saturating_sub(self.in_flight())
    }

    pub(super) async fn idle(&self, timeout: Duration) -> bool {
        let idle = async {
            loop {
                let none = self.common.in_flight.none.notified();
                if self.in_flight() == 0 {
                    return;
                }
                none.await;
            }
        };
        tokio::time::timeout(timeout, idle).await.is_ok()
    }
}

impl Served {
    fn start(config: &KafkaConfig, common: &Common) -> Result<Self, KafkaError> {
        let context = Context { in_flight: common.in_flight.clone(), clock: common.clock.clone() };
        let client =
            Client::from_config_and_context(&config.producer(), context).map_err(|error| KafkaError::client(&error))?;
        let served = Self { client: Arc::new(client), stop: Arc::default() };
        let (client, stop, common) = (served.client.clone(), served.stop.clone(), common.clone());
        thread::Builder::new()
            .name("kafka-producer".into())
            .spawn(move || {
                let mut counted = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    client.poll(IDLE);
                    let is_due = counted.elapsed() >= COUNT_EVERY;
                    let topics = if is_due { common.quotas().all() } else { common.quotas().unknown() };
                    if is_due {
                        counted = Instant::now();
                    }
                    count_partitions(&client, &common, &topics);
                }
                // A failed producer still reports its records; a dropped one purges them.
                if client.client().fatal_error().is_some() && client.flush(DRAIN).is_err() {
                    tracing::warn!(
                        "Kafka: the failed producer still held records; they are reported as not acknowledged"
                    );
                }
            })
            .map_err(|error| KafkaError::Client(format!("no thread for the producer: {error}")))?;
        Ok(served)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // The thread drops the last reference, because that may block.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The question creates no topic (allow.auto.create.topics=false). A missing topic has no count yet.
fn count_partitions(client: &Client, common: &Common, topics: &[String]) {
    for topic in topics {
        // The broker is unreachable, and so are the reports that wait meanwhile.
        let Ok(metadata) = client.client().fetch_metadata(Some(topic), METADATA) else { return };
        let found = metadata.topics().first().filter(|topic| topic.error().is_none());
        let partitions = found.map_or(0, |topic| i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX));
        if partitions > 0 {
            common.quotas().has_partitions(topic, partitions);
        }
    }
}

/// Queues one record without blocking; librdkafka copies it.
#[allow(unsafe_code, reason = "rust-rdkafka cannot write header names that are not UTF-8")]
fn produce(
    client: &Client,
    record: &OutRecord,
    time: i64,
    delivery: Box<Delivery>,
) -> Result<(), (PublishError, Box<Delivery>)> {
    let Ok(topic) = CString::new(record.topic.as_bytes()) else {
        return Err((PublishError::Refused("the topic's name contains NUL".into()), delivery));
    };
    let headers = match record.headers.as_slice() {
        [] => None,
        headers => match NativeHeaders::copy(headers) {
            Ok(headers) => Some(headers),
            Err(error) => return Err((PublishError::Refused(Code::from(error).to_string()), delivery)),
        },
    };
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or((ptr::null(), 0), |b| (b.as_ptr(), b.len()));
    let (key, key_len) = bytes(&record.key);
    let (value, value_len) = bytes(&record.value);
    let delivery = delivery.into_ptr();
    // SAFETY: the client is alive while it is borrowed. The arguments come in the types that each tag asks for, and the
    // list is ended. Topic, key and value are copied (MSG_F_COPY), the delivery and the headers taken over on success only.
    let error = unsafe {
        ffi::rd_kafka_producev(
            client.client().native_ptr(),
            vtype::RD_KAFKA_VTYPE_TOPIC,
            topic.as_ptr(),
            vtype::RD_KAFKA_VTYPE_MSGFLAGS,
            ffi::RD_KAFKA_MSG_F_COPY,
            vtype::RD_KAFKA_VTYPE_VALUE,
            value,
            value_len,
            vtype::RD_KAFKA_VTYPE_KEY,
            key,
            key_len,
            vtype::RD_KAFKA_VTYPE_TIMESTAMP,
            time,
            vtype::RD_KAFKA_VTYPE_OPAQUE,
            delivery,
            vtype::RD_KAFKA_VTYPE_HEADERS,
            headers.as_ref().map_or(ptr::null_mut(), NativeHeaders::ptr),
            vtype::RD_KAFKA_VTYPE_END,
        )
    };
    if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        if let Some(headers) = headers {
            headers.taken();
        }
        return Ok(());
    }
    // SAFETY: it was made above, and librdkafka has not taken it.
    let delivery = unsafe { Box::<Delivery>::from_ptr(delivery) };
    Err((publish_error(error.into()), delivery))
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use rdkafka::{bindings as ffi, producer::Producer as _, types::RDKafkaRespErr};
    use saga_core::{
        record::OutRecord,
        transport::{Producer as _, PublishError},
    };

    use crate::{EmbeddedBroker, KafkaProducer};

    fn record(value: &str) -> OutRecord {
        OutRecord { topic: "t".into(), key: None, value: Some(value.into()), headers: vec![] }
    }

    #[allow(unsafe_code, reason = "librdkafka's own way of making a client fail")]
    fn fail(producer: &KafkaProducer) {
        let served = producer.connection.served.lock().unwrap();
        let reason = CString::new("a test").unwrap();
        let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        // SAFETY: the client is alive while it is locked; the reason is copied.
        unsafe { ffi::rd_kafka_test_fatal_error(served.client.client().native_ptr(), error, reason.as_ptr()) };
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_producer_that_failed_for_good_is_replaced() {
        let broker = EmbeddedBroker::start(&["t"], 1).unwrap();
        let producer = KafkaProducer::new(&broker.config()).unwrap();
        assert_eq!(producer.publish(vec![record("before")]).await, [Ok(())]);
        broker.set_reachable(false);
        let stuck = producer.publish(vec![record("stuck")]);
        fail(&producer);
        let after = producer.publish(vec![record("after")]);
        assert!(matches!(stuck.await[..], [Err(PublishError::Unacknowledged(_))]));
        broker.set_reachable(true);
        assert_eq!(after.await, [Ok(())]);
        assert_eq!(producer.in_flight(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn dropping_the_last_clone_decides_what_is_not_sent() {
        let broker = EmbeddedBroker::start(&["t"], 1).unwrap();
        broker.set_reachable(false);
        let producer = KafkaProducer::new(&broker.config()).unwrap();
        let published = producer.publish(vec![record("never")]);
        drop(producer);
        assert!(matches!(published.await[..], [Err(PublishError::Unacknowledged(_))]));
    }
}

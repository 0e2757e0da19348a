//! A Kafka broker inside this process, for demonstrations and tests.

use std::{
    ffi::CString,
    sync::mpsc::{Sender, channel},
    thread,
    time::Duration,
};

use rdkafka::{
    bindings as ffi,
    client::{Client, DefaultClientContext},
    config::RDKafkaLogLevel,
    types::RDKafkaType,
};

use crate::{KafkaConfig, KafkaError};

/// librdkafka's mock broker, listening on a free port of 127.0.0.1 for as long as this value lives.
///
/// For demonstrations and tests only. It keeps nothing on disk, and of each partition the last 5 MB (or 100,000
/// batches): a consumer that falls back further loses records. It creates no topics on request: name them at the start.
/// It shows records of aborted transactions and ignores static membership. It answers an empty fetch only when the
/// fetch's time is up, and ends a rebalance shortly before the session times out; [`EmbeddedBroker::config`] keeps both
/// short. It refuses commits while members join.
pub struct EmbeddedBroker {
    bootstrap_servers: String,
    /// Commands for the broker's thread, which ends when this is dropped.
    orders: Sender<Order>,
}

type Order = Box<dyn FnOnce(&Cluster) + Send>;

impl EmbeddedBroker {
    /// Starts a broker with these topics, each with this many partitions.
    ///
    /// # Errors
    /// When a topic cannot be created: the name is not valid, or the number of partitions is not positive.
    pub fn start<T: AsRef<str>>(topics: &[T], partitions: i32) -> Result<Self, KafkaError> {
        let (orders, inbox) = channel::<Order>();
        let (started, start) = channel();
        // The broker stays on one thread, because it must be destroyed before the client that owns it.
        thread::Builder::new()
            .name("embedded-kafka".into())
            .spawn(move || match Cluster::new() {
                Ok(cluster) => {
                    if started.send(Ok(cluster.bootstrap_servers())).is_ok() {
                        inbox.into_iter().for_each(|order| order(&cluster));
                    }
                }
                Err(error) => drop(started.send(Err(error))),
            })
            .map_err(|error| KafkaError::Client(format!("no thread for the embedded broker: {error}")))?;
        let ended = |_| KafkaError::Client("the embedded broker has ended".into());
        let broker = Self { bootstrap_servers: start.recv().map_err(ended)??, orders };
        for topic in topics {
            broker.create_topic(topic.as_ref(), partitions)?;
        }
        Ok(broker)
    }

    /// Its address, `127.0.0.1:<port>`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// A configuration for its clients.
    pub fn config(&self) -> KafkaConfig {
        KafkaConfig::new(&self.bootstrap_servers)
            // An empty fetch is answered only after this time, whatever arrives meanwhile.
            .with_default("fetch.wait.max.ms", "5")
            // A rebalance takes this long, less a second.
            .with_default("session.timeout.ms", "3000")
            .with_default("heartbeat.interval.ms", "300")
    }

    /// Adds a topic.
    ///
    /// # Errors
    /// When it exists, its name is not valid, or the number of partitions is not positive.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), KafkaError> {
        let failed = |reason: &str| KafkaError::Client(format!("the embedded broker has no topic {topic}: {reason}"));
        if partitions < 1 {
            return Err(failed("the number of partitions must be positive"));
        }
        let name = CString::new(topic).map_err(|_| failed("its name contains NUL"))?;
        self.order(move |cluster| cluster.create_topic(&name, partitions))?.map_err(|reason| failed(&reason))
    }

    /// Breaks all connections and accepts no new ones, or accepts them again. What it holds stays.
    pub fn set_reachable(&self, reachable: bool) {
        // It has not ended: this value lives.
        let _ = self.order(move |cluster| cluster.set_reachable(reachable));
    }

    /// Delays every answer, as a distant or busy broker would.
    pub fn set_delay(&self, delay: Duration) {
        let _ = self.order(move |cluster| cluster.set_delay(delay));
    }

    /// Refuses the next request to publish, as a broker does whose clock is far from the producer's.
    pub fn refuse_time_once(&self) {
        let _ = self.order(Cluster::refuse_time_once);
    }

    fn order<T: Send + 'static>(&self, order: impl FnOnce(&Cluster) -> T + Send + 'static) -> Result<T, KafkaError> {
        let (answer, answered) = channel();
        let order: Order = Box::new(move |cluster| drop(answer.send(order(cluster))));
        let ended = || KafkaError::Client("the embedded broker has ended".into());
        self.orders.send(order).map_err(|_| ended())?;
        answered.recv().map_err(|_| ended())
    }
}

/// The mock cluster of a client that does nothing else. Not rust-rdkafka's own wrapper: that cannot shorten the three
/// seconds for which a new group waits for more members.
struct Cluster {
    native: *mut ffi::rd_kafka_mock_cluster_t,
    /// Owns the cluster.
    _client: Client,
}

impl Cluster {
    #[allow(unsafe_code, reason = "rust-rdkafka's mock cluster hides the settings that are needed here")]
    fn new() -> Result<Self, KafkaError> {
        let mut config = rdkafka::ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Error).set("test.mock.num.brokers", "1");
        let failed = |error| KafkaError::client(&error);
        let conf = config.create_native_config().map_err(failed)?;
        let client =
            Client::new(&config, conf, RDKafkaType::RD_KAFKA_PRODUCER, DefaultClientContext).map_err(failed)?;
        // SAFETY: the client is alive, and was asked for a mock cluster that lives as long as it.
        let native = unsafe { ffi::rd_kafka_handle_mock_cluster(client.native_ptr()) };
        if native.is_null() {
            return Err(KafkaError::Client("librdkafka has no mock cluster".into()));
        }
        // SAFETY: the cluster is alive.
        unsafe { ffi::rd_kafka_mock_group_initial_rebalance_delay_ms(native, 50) };
        Ok(Self { native, _client: client })
    }

    #[allow(unsafe_code, reason = "see `new`")]
    fn bootstrap_servers(&self) -> String {
        // SAFETY: the cluster is alive, and its string lives as long as it.
        let servers = unsafe { std::ffi::CStr::from_ptr(ffi::rd_kafka_mock_cluster_bootstraps(self.native)) };
        servers.to_string_lossy().into_owned()
    }

    #[allow(unsafe_code, reason = "see `new`")]
    fn create_topic(&self, name: &CString, partitions: i32) -> Result<(), String> {
        // SAFETY: the cluster is alive, the name ends with NUL.
        let error = unsafe { ffi::rd_kafka_mock_topic_create(self.native, name.as_ptr(), partitions, 1) };
        match rdkafka::types::RDKafkaErrorCode::from(error) {
            rdkafka::types::RDKafkaErrorCode::NoError => Ok(()),
            code => Err(code.to_string()),
        }
    }

    #[allow(unsafe_code, reason = "see `new`")]
    fn refuse_time_once(&self) {
        /// Kafka's number of the request to publish.
        const PRODUCE: i16 = 0;
        let error = ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP;
        // SAFETY: the cluster is alive; one error is given, and copied.
        unsafe { ffi::rd_kafka_mock_push_request_errors_array(self.native, PRODUCE, 1, &raw const error) };
    }

    #[allow(unsafe_code, reason = "see `new`")]
    fn set_reachable(&self, reachable: bool) {
        // SAFETY: the cluster is alive; -1 stands for all of its brokers.
        unsafe {
            if reachable {
                ffi::rd_kafka_mock_broker_set_up(self.native, -1);
            } else {
                ffi::rd_kafka_mock_broker_set_down(self.native, -1);
            }
        }
    }

    #[allow(unsafe_code, reason = "see `new`")]
    fn set_delay(&self, delay: Duration) {
        let delay = i32::try_from(delay.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the cluster is alive; -1 stands for all of its brokers.
        unsafe { ffi::rd_kafka_mock_broker_set_rtt(self.native, -1, delay) };
    }
}

//! The broker of a world: one inside the test process, or a Kafka of its own.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Context, Result, bail};
use saga_kafka::{EmbeddedBroker, KafkaConfig};

use crate::{Mode, janitor};

/// Topics of the order flow.
pub const TOPICS: [&str; 4] = ["order.events", "inventory.events", "payment.events", "shipping.events"];
/// Dead letters of the four participants.
pub const DEAD_LETTERS: [&str; 4] = ["order.dlq", "inventory.dlq", "payment.dlq", "shipping.dlq"];

/// A broker that no other world uses. Topics and groups have fixed names, so two worlds cannot share one.
pub enum Broker {
    /// In this process.
    Embedded(EmbeddedBroker),
    /// Beside this process.
    Kafka(Kafka),
}

/// A Kafka that `scripts/kafka` runs.
#[derive(Clone)]
pub struct Kafka {
    port: u16,
    address: String,
}

impl Broker {
    /// Starts an empty broker.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(mode: Mode) -> Result<Self> {
        match mode {
            Mode::Embedded => {
                let topics: Vec<&str> = TOPICS.into_iter().chain(DEAD_LETTERS).collect();
                Ok(Self::Embedded(EmbeddedBroker::start(&topics, 6)?))
            }
            Mode::Live => tokio::task::spawn_blocking(Kafka::start).await?.map(Self::Kafka),
        }
    }

    /// Its address.
    pub fn bootstrap_servers(&self) -> &str {
        match self {
            Self::Embedded(broker) => broker.bootstrap_servers(),
            Self::Kafka(kafka) => &kafka.address,
        }
    }

    /// How a client of this process reaches it.
    pub fn config(&self) -> KafkaConfig {
        match self {
            Self::Embedded(broker) => broker.config(),
            Self::Kafka(kafka) => KafkaConfig::new(&kafka.address),
        }
    }

    /// Breaks all connections and takes no new ones: a Kafka is killed, and the embedded broker turned off.
    ///
    /// # Errors
    /// When that is not possible.
    pub async fn take_away(&self) -> Result<()> {
        self.switch(false).await
    }

    /// The reverse of [`Broker::take_away`].
    ///
    /// # Errors
    /// When that is not possible.
    pub async fn bring_back(&self) -> Result<()> {
        self.switch(true).await
    }

    async fn switch(&self, on: bool) -> Result<()> {
        match self {
            Self::Embedded(broker) => {
                broker.set_reachable(on);
                Ok(())
            }
            Self::Kafka(kafka) => {
                let (kafka, verb) = (kafka.clone(), if on { "start" } else { "kill" });
                tokio::task::spawn_blocking(move || kafka.script(verb)).await?
            }
        }
    }

    /// Variables that the services need besides the address.
    pub fn variables(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            // As `EmbeddedBroker::config` has it.
            Self::Embedded(_) => &[("KAFKA_CFG_FETCH_WAIT_MAX_MS", "5")],
            Self::Kafka(_) => &[],
        }
    }
}

impl Kafka {
    fn start() -> Result<Self> {
        let port = free_port()?;
        janitor::tell("kafka", port)?;
        let kafka = Self { port, address: format!("127.0.0.1:{port}") };
        kafka.script("start")?;
        Ok(kafka)
    }

    fn script(&self, verb: &str) -> Result<()> {
        let mut kafka = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/kafka"));
        kafka.arg(verb).env("KAFKA_PORT", self.port.to_string()).env("KAFKA_HEAP_OPTS", "-Xms128m -Xmx512m");
        let output = kafka.stdin(Stdio::null()).output().context("scripts/kafka does not run")?;
        if !output.status.success() {
            bail!("scripts/kafka {verb}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

/// Below the range of outgoing connections, and with a free neighbour for the controller.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 1000).unwrap_or_default();
    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..1000)
        .map(|_| 23_000 + (process * 4 + NEXT.fetch_add(4, Ordering::Relaxed)) % 4000)
        .find(|port| is_free(*port) && is_free(port + 1))
        .context("no free port for a Kafka")
}

//! The broker of a world: one inside the test process, or a Kafka of its own.

use std::sync::Arc;

use anyhow::{Context, Result};
use saga_kafka::{EmbeddedBroker, KafkaConfig};

use super::{Mode, cleanup};
use crate::servers::{Kafka, Server, Verb};

/// Topics of the order flow.
pub const TOPICS: [&str; 4] = ["order.events", "inventory.events", "payment.events", "shipping.events"];
/// Dead letters of the four participants.
pub const DEAD_LETTERS: [&str; 4] = ["order.dlq", "inventory.dlq", "payment.dlq", "shipping.dlq"];

/// A broker that no other world uses. Topics and groups have fixed names, so two worlds cannot share one.
pub enum Broker {
    /// In this process.
    Embedded(EmbeddedBroker),
    /// Beside this process, with its address.
    Kafka(Arc<Kafka>, String),
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
            Mode::Live => {
                let kafka = tokio::task::spawn_blocking(start_kafka).await??;
                let address = kafka.address();
                Ok(Self::Kafka(Arc::new(kafka), address))
            }
        }
    }

    /// Its address.
    pub fn bootstrap_servers(&self) -> &str {
        match self {
            Self::Embedded(broker) => broker.bootstrap_servers(),
            Self::Kafka(_, address) => address,
        }
    }

    /// How a client of this process reaches it.
    pub fn config(&self) -> KafkaConfig {
        match self {
            Self::Embedded(broker) => broker.config(),
            Self::Kafka(_, address) => KafkaConfig::new(address),
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
            Self::Kafka(kafka, _) => {
                let (kafka, verb) = (Arc::clone(kafka), if on { Verb::Start } else { Verb::Kill });
                tokio::task::spawn_blocking(move || kafka.run(verb)).await?
            }
        }
    }

    /// Variables that the services need besides the address.
    pub fn variables(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            // As `EmbeddedBroker::config` has it.
            Self::Embedded(_) => &[("KAFKA_CFG_FETCH_WAIT_MAX_MS", "5")],
            Self::Kafka(..) => &[],
        }
    }
}

fn start_kafka() -> Result<Kafka> {
    let kafka = Kafka::new(&Server::Kafka.source().context("there is no Kafka")?)?;
    if let Some(port) = kafka.script_port() {
        cleanup::register("kafka", port)?;
    }
    kafka.run(Verb::Start)?;
    Ok(kafka)
}

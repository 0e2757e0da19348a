//! A Kafka in a container.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context, Result, anyhow};
use testcontainers::{
    ImageExt,
    bollard::query_parameters::KillContainerOptionsBuilder,
    core::{WaitFor, client::docker_client_instance},
};
use tokio::io::AsyncBufReadExt;

use super::Verb;
use crate::servers::{Server, docker, remover};

/// What it says when it serves.
const READY: &str = "Kafka Server started";
/// The port inside of the container.
const INSIDE: u16 = 9092;
/// Longer than an orderly end takes, in seconds.
const ORDERLY: i32 = 30;

/// Made at its first start.
#[derive(Default)]
pub(super) struct Container {
    made: OnceLock<docker::Container>,
    starts_again: AtomicUsize,
}

impl Container {
    pub(super) fn run(&self, verb: Verb, port: u16) -> Result<()> {
        let made = || self.made.get().context("Kafka was not started");
        docker::wait(async {
            match verb {
                Verb::Start => self.start(port).await,
                Verb::Stop => Ok(made()?.stop_with_timeout(Some(ORDERLY)).await?),
                Verb::Kill => {
                    // To be stopped without patience is to be told first.
                    let kill = KillContainerOptionsBuilder::new().signal("KILL").build();
                    Ok(docker_client_instance().await?.kill_container(made()?.id(), Some(kill)).await?)
                }
                Verb::Pause => Ok(made()?.pause().await?),
                Verb::Resume => Ok(made()?.unpause().await?),
            }
        })
    }

    async fn start(&self, port: u16) -> Result<()> {
        let Some(container) = self.made.get() else {
            return self.made.set(make(port).await?).map_err(|_| anyhow!("Kafka is started already"));
        };
        // Docker keeps what it said at earlier starts.
        let starts = self.starts_again.fetch_add(1, Ordering::Relaxed) + 2;
        container.start().await?;
        let serving = async {
            let mut log = container.stdout(true).lines();
            let mut ready = 0;
            while ready < starts {
                let line = log.next_line().await?.context("Kafka ended while it was starting")?;
                ready += usize::from(line.contains(READY));
            }
            Ok(())
        };
        tokio::time::timeout(docker::PATIENCE, serving).await.context("Kafka does not serve again")?
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let Some(container) = self.made.take() else { return };
        // Left to itself it would need the runtime of whoever drops it.
        if remover::keeps() {
            docker::wait(async { drop(container) });
        } else {
            let _ = docker::wait(container.rm());
        }
    }
}

async fn make(port: u16) -> Result<docker::Container> {
    let variables = [
        ("KAFKA_NODE_ID", "1"),
        ("KAFKA_PROCESS_ROLES", "broker,controller"),
        ("KAFKA_LISTENERS", "INTERNAL://:19092,HOST://:9092,CONTROLLER://:9093"),
        ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "INTERNAL:PLAINTEXT,HOST:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ("KAFKA_INTER_BROKER_LISTENER_NAME", "INTERNAL"),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
        ("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093"),
        // As scripts/kafka has it: its server.properties say why.
        ("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false"),
        ("KAFKA_NUM_PARTITIONS", "6"),
        ("KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS", "4"),
        ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1"),
        ("KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS", "4"),
        ("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1"),
        ("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1"),
        ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0"),
        ("KAFKA_BROKER_SESSION_TIMEOUT_MS", "3000"),
        ("KAFKA_BROKER_HEARTBEAT_INTERVAL_MS", "500"),
        ("KAFKA_LOG_CLEANER_DEDUPE_BUFFER_SIZE", "16777216"),
        ("KAFKA_LOG_SEGMENT_BYTES", "134217728"),
        ("KAFKA_HEAP_OPTS", "-Xms128m -Xmx512m"),
    ];
    let advertised = format!("INTERNAL://localhost:19092,HOST://{}", super::address(port));
    let ready = [WaitFor::message_on_stdout(READY)];
    docker::start(Server::Kafka, (INSIDE, Some(port)), &ready, |request| {
        let request = request.with_env_var("KAFKA_ADVERTISED_LISTENERS", advertised);
        variables.iter().fold(request, |request, (name, value)| request.with_env_var(*name, *value))
    })
    .await
}

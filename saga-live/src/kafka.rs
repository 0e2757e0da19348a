//! A Kafka of a test's own, which can be taken away and brought back; and the one that tests share.

mod container;
mod script;

use std::{
    net::TcpListener,
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
};

use anyhow::{Context, Result, anyhow};

use crate::Source;

/// A Kafka of its owner's own: a container, or a process of `scripts/kafka` where tests use a Kafka that runs already.
///
/// Its address is chosen before it starts and stays the same: Kafka must be told it, and clients may wait for it.
/// It is removed when this is dropped; a container also when the process ends.
pub struct Kafka {
    port: u16,
    /// None where `scripts/kafka` runs it.
    container: Option<container::Container>,
}

/// What a Kafka can be told. Each returns when it is so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Starts, with the data of the last time if there was one, and serves.
    Start,
    /// Ends in order.
    Stop,
    /// Ends at once, as in a crash.
    Kill,
    /// Freezes: connections stay, and nothing answers.
    Pause,
    /// The reverse of [`Verb::Pause`].
    Resume,
}

impl Kafka {
    /// Chooses an address. Nothing runs there yet.
    ///
    /// # Errors
    /// When no port is free.
    pub fn new(source: &Source) -> Result<Self> {
        let container = (*source == Source::Container).then(container::Container::default);
        Ok(Self { port: free_port()?, container })
    }

    /// Where it listens when it runs.
    pub fn address(&self) -> String {
        address(self.port)
    }

    /// The port by which `scripts/kafka` knows it, when it is not a container. Somebody must tell it to `wipe` that one when
    /// this process is killed.
    pub fn script_port(&self) -> Option<u16> {
        self.container.is_none().then_some(self.port)
    }

    /// Starts it, or takes it away.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn run(&self, verb: Verb) -> Result<()> {
        match &self.container {
            Some(container) => container.run(verb, self.port),
            None => script::run(&format!("{verb:?}").to_lowercase(), self.port),
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if self.container.is_none() {
            let _ = script::run("wipe", self.port);
        }
    }
}

/// The address of the one that tests share.
pub(crate) fn shared() -> Result<String> {
    static SHARED: LazyLock<Result<Kafka, String>> = LazyLock::new(|| {
        let kafka = Kafka::new(&Source::Container).and_then(|kafka| kafka.run(Verb::Start).map(|()| kafka));
        kafka.map_err(|error| format!("{error:#}"))
    });
    SHARED.as_ref().map(Kafka::address).map_err(|error| anyhow!(error.clone()))
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
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

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
use uuid::Uuid;

use crate::servers::{Source, docker::PortTaken};

/// So many ports there are to choose from, with room beside each.
const PLACES: u16 = 3000;

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
        let start = || Kafka::new(&Source::Container).and_then(|kafka| kafka.run(Verb::Start).map(|()| kafka));
        somewhere(start).map_err(|error| format!("{error:#}"))
    });
    SHARED.as_ref().map(Kafka::address).map_err(|error| anyhow!(error.clone()))
}

/// What is told its address only when it runs may have another port when somebody has just taken the one chosen.
fn somewhere<T>(start: impl Fn() -> Result<T>) -> Result<T> {
    let is_final = |started: &Result<T>| !started.as_ref().is_err_and(anyhow::Error::is::<PortTaken>);
    (1..10).map(|_| start()).find(is_final).unwrap_or_else(start)
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Below the range of outgoing connections, and with a free neighbour for the controller. Processes begin anywhere, so
/// that they hardly meet, also where nobody listens yet; and none chooses a port a second time.
fn free_port() -> Result<u16> {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(Uuid::new_v4().as_fields().1 % PLACES));
    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..PLACES)
        .map(|_| port(NEXT.fetch_add(1, Ordering::Relaxed)))
        .find(|port| is_free(*port) && is_free(port + 1))
        .context("no free port for a Kafka")
}

fn port(place: u16) -> u16 {
    20_000 + place % PLACES * 4
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeSet};

    use anyhow::anyhow;

    use super::{PortTaken, somewhere};

    #[test]
    fn a_port_that_is_taken_is_no_reason_to_give_up() {
        let starts = Cell::new(0);
        let taken_at_first = |times| {
            starts.set(0);
            somewhere(|| {
                starts.set(starts.get() + 1);
                if starts.get() > times { Ok(()) } else { Err(anyhow!("no").context(PortTaken)) }
            })
        };
        assert!(taken_at_first(9).is_ok() && starts.get() == 10);
        assert!(taken_at_first(10).is_err() && starts.get() == 10);
    }

    #[test]
    fn what_another_port_does_not_mend_is_an_error_at_once() {
        let starts = Cell::new(0);
        let fail = || {
            starts.set(starts.get() + 1);
            Err::<(), _>(anyhow!("no space left on device"))
        };
        assert!(somewhere(fail).is_err() && starts.get() == 1);
    }

    #[test]
    fn ports_are_chosen_once_and_are_below_those_of_outgoing_connections() {
        let ports: BTreeSet<u16> = (0..super::PLACES).map(super::port).collect();
        assert_eq!(ports.len(), usize::from(super::PLACES));
        assert!(ports.iter().all(|port| (20_000..32_000).contains(port)));
        let chosen: BTreeSet<u16> = (0..20).map(|_| super::free_port().unwrap()).collect();
        assert_eq!(chosen.len(), 20, "{chosen:?}");
    }
}

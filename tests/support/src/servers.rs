//! Where live tests find Kafka and PostgreSQL: the ones that variables name, or containers of the test process's own.
//!
//! - `KAFKA_BOOTSTRAP_SERVERS` and `TEST_DATABASE_URL` are used where they are given.
//! - Otherwise, where Docker answers, a process starts one Kafka and one PostgreSQL when the first of its tests asks for
//!   them, on ports of their own, so that processes do not meet. `KAFKA_IMAGE` and `POSTGRES_IMAGE` name other images.
//!   They are gone when the process is, however it ends. Their label `saga.tests.run` has the value of `SAGA_TEST_RUN`.
//! - Where there is no Docker either, or with `SAGA_TEST_CONTAINERS=0`, tests are skipped, and the first of them says what
//!   is missing; with `SAGA_REQUIRE_LIVE=1` or `SAGA_TEST_CONTAINERS=1` they fail.

mod docker;
mod kafka;
mod postgres;
mod remover;

pub use kafka::{Kafka, Verb};

use std::{
    collections::BTreeSet,
    io::Write,
    sync::{Mutex, PoisonError},
};

use anyhow::Result;

/// With one of them, tests fail that would be skipped otherwise.
const REQUIRING: [&str; 2] = ["SAGA_REQUIRE_LIVE", "SAGA_TEST_CONTAINERS"];

/// A server that live tests need.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Server {
    /// Kafka.
    Kafka,
    /// PostgreSQL.
    Postgres,
}

/// Where a server comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// It runs; this is its address or URL.
    Given(String),
    /// A container is to be started.
    Container,
}

/// The bootstrap servers of the Kafka that all tests of this process share; topics and groups must be a test's own.
/// None where there is none: that was said, and the test is to be skipped.
///
/// # Panics
/// When there is none and `SAGA_REQUIRE_LIVE=1` or `SAGA_TEST_CONTAINERS=1`, or when its container does not start.
pub fn kafka() -> Option<String> {
    Some(match Server::Kafka.source()? {
        Source::Given(servers) => servers,
        Source::Container => started(kafka::shared()),
    })
}

/// The URL of the PostgreSQL that all tests of this process share; schemas or databases must be a test's own.
/// None where there is none: that was said, and the test is to be skipped.
///
/// # Panics
/// When there is none and `SAGA_REQUIRE_LIVE=1` or `SAGA_TEST_CONTAINERS=1`, or when its container does not start.
pub fn postgres() -> Option<String> {
    Some(match Server::Postgres.source()? {
        Source::Given(url) => url,
        Source::Container => started(postgres::shared()),
    })
}

fn started(address: Result<String>) -> String {
    address.unwrap_or_else(|error| panic!("{error:#}"))
}

impl Server {
    /// Where it comes from. None where there is none: that was said, once for this process, and the test is to be skipped.
    ///
    /// # Panics
    /// When there is none and `SAGA_REQUIRE_LIVE=1` or `SAGA_TEST_CONTAINERS=1`.
    pub fn source(self) -> Option<Source> {
        static SAID: Mutex<BTreeSet<Server>> = Mutex::new(BTreeSet::new());
        // What is empty counts as not set.
        if let Ok(given) = std::env::var(self.variable())
            && !given.is_empty()
        {
            return Some(Source::Given(given));
        }
        let Err(lack) = docker::has(self) else { return Some(Source::Container) };
        let (name, variable) = (self.name(), self.variable());
        let missing =
            format!("there is no {name}: {}. {}, or set {variable} (scripts/test does)", lack.why, lack.remedy);
        if let Some(required) = REQUIRING.iter().find(|name| std::env::var(name).is_ok_and(|value| value == "1")) {
            panic!("{required}=1, and {missing}");
        }
        if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(self) {
            // Not by eprintln, which the test harness keeps for itself when a test passes, as a skipped one does.
            let _ = writeln!(std::io::stderr(), "skipped: {missing}");
        }
        None
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kafka => "Kafka",
            Self::Postgres => "PostgreSQL",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Kafka => "KAFKA_BOOTSTRAP_SERVERS",
            Self::Postgres => "TEST_DATABASE_URL",
        }
    }

    fn image_variable(self) -> &'static str {
        match self {
            Self::Kafka => "KAFKA_IMAGE",
            Self::Postgres => "POSTGRES_IMAGE",
        }
    }

    fn image(self) -> String {
        let given = std::env::var(self.image_variable()).ok().filter(|image| !image.is_empty());
        given.unwrap_or_else(|| self.default_image().to_owned())
    }

    /// That of `docker-compose.yml`.
    fn default_image(self) -> &'static str {
        match self {
            Self::Kafka => "apache/kafka:4.3.1",
            Self::Postgres => "postgres:17.6",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Server;

    #[test]
    fn images_are_those_of_docker_compose() {
        let compose = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docker-compose.yml");
        let compose = std::fs::read_to_string(compose).unwrap();
        for server in [Server::Kafka, Server::Postgres] {
            let image = format!("image: ${{{}:-{}}}", server.image_variable(), server.default_image());
            assert!(compose.lines().any(|line| line.trim() == image), "docker-compose.yml has no {image}");
        }
    }
}

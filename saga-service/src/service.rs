//! What a service tells the shell about itself, and what it gets.

use std::{fmt::Debug, sync::Arc};

use axum::Router;
use saga_core::{Namespace, Participant, clock::SystemClock, runtime, trace::Tracer};
use saga_kafka::KafkaProducer;
use saga_store::{DatabaseUrl, Db, Migration};

use crate::error::ServiceError;

/// Publishes events outside any step: make the row, write it in the transaction that it belongs to, and report it once it
/// is committed, so that it leaves at once.
pub type Outbox = runtime::Outbox<Db, KafkaProducer, SystemClock>;

/// One participant as a service of its own.
///
/// ```no_run
/// use saga_core::Participant;
/// use saga_service::{Deps, NoArgs, Parts, Service, ServiceError};
/// use saga_store::Migration;
///
/// struct Inventory;
///
/// impl Service for Inventory {
///     const NAME: &'static str = "inventory";
///     const HTTP_ADDR: &'static str = "127.0.0.1:8082";
///     const MIGRATIONS: &'static [Migration] = &[];
///     type Args = NoArgs;
///
///     fn build(_args: &NoArgs, _deps: &Deps) -> Result<Parts, ServiceError> {
///         Ok(Parts::new(Participant::named("inventory")))
///     }
/// }
///
/// fn main() -> std::process::ExitCode {
///     saga_service::main::<Inventory>()
/// }
/// ```
pub trait Service: Sized + Send + 'static {
    /// The participant's name: its consumer group, its schema, the stem of its dead-letter topic.
    const NAME: &'static str;
    /// Where it listens unless `HTTP_ADDR` says otherwise.
    const HTTP_ADDR: &'static str;
    /// Its own tables. Those of the framework are added to them.
    const MIGRATIONS: &'static [Migration];
    /// The service's own flags; [`NoArgs`] when it has none. Give each a variable (`env`) and `hide_env_values = true`.
    /// Their `Debug` is written to the log at start-up, so it must not show a secret.
    type Args: clap::Args + Clone + Debug + Send + Sync + 'static;
    /// Every event type of the choreography. One that a topic brings and that is not among them is warned of, once; when
    /// none is named, none is.
    const KNOWN_EVENTS: &'static [&'static str] = &[];

    /// Puts the service together. Nothing is reachable yet: do not wait for anything.
    ///
    /// # Errors
    /// When the service cannot work as it is configured; the process says so in one line and ends.
    fn build(args: &Self::Args, deps: &Deps) -> Result<Parts, ServiceError>;
}

/// What a service is built from.
#[derive(Clone)]
pub struct Deps {
    /// The participant's database. It may not be reachable yet; routes are called only once it is prepared.
    pub db: Db,
    /// For events that are published outside any step, on a request.
    pub outbox: Outbox,
    /// For spans of the service's own.
    pub tracer: Arc<dyn Tracer>,
    /// Where the database is, for a service that needs a second one beside it.
    pub database_url: DatabaseUrl,
    /// What stands before the names of topics, groups and schemas.
    pub namespace: Namespace,
}

/// What a service consists of.
pub struct Parts {
    /// Its declared part in the choreography.
    pub participant: Participant<Db>,
    /// Its own HTTP routes; the shell adds `/livez`, `/readyz`, `/readyz/http` and `/metrics`.
    /// They are called when it is their turn at the database, with the whole body of the request at hand.
    pub routes: Router,
    /// Databases besides [`Deps::db`] that must be prepared before the service can work.
    pub prepare: Vec<Db>,
}

impl Parts {
    /// A service without routes of its own.
    pub fn new(participant: Participant<Db>) -> Self {
        Self { participant, routes: Router::new(), prepare: Vec::new() }
    }

    /// Adds HTTP routes.
    #[must_use]
    pub fn with_routes(self, routes: Router) -> Self {
        Self { routes: self.routes.merge(routes), ..self }
    }

    /// Adds a database that must be prepared before the service can work.
    #[must_use]
    pub fn with_database(mut self, db: Db) -> Self {
        self.prepare.push(db);
        self
    }
}

/// No flags of its own.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct NoArgs {}

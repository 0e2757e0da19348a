//! What a service tells the shell about itself, and what it gets.

use std::sync::Arc;

use axum::Router;
use saga_core::{Namespace, Participant, trace::Tracer};
use saga_store::{DatabaseUrl, Db, Migration, Outbox};

use crate::error::ServiceError;

/// A participant as a service of its own.
///
/// ```no_run
/// use saga_core::Participant;
/// use saga_store::Db;
///
/// fn inventory() -> Participant<Db> {
///     Participant::named("inventory")
/// }
///
/// fn main() -> std::process::ExitCode {
///     saga_service::serve(inventory()).http("127.0.0.1:8082").run()
/// }
/// ```
pub fn serve(participant: Participant<Db>) -> Service {
    Service::built(participant.name(), move |_: &NoArgs, _| Ok(participant))
}

/// A service, described: [`Service::run`] is the `main` of its binary.
pub struct Service<A = NoArgs> {
    pub(crate) name: &'static str,
    pub(crate) http_addr: &'static str,
    pub(crate) migrations: &'static [Migration],
    pub(crate) build: Build<A>,
}

type Build<A> = Box<dyn FnOnce(&A, &Deps) -> Result<Parts, ServiceError> + Send>;

impl<A: 'static> Service<A> {
    /// A service whose participant needs flags of the service's own, or what a service is built from. The name is the
    /// participant's, since `--help` says it. `A` are the flags, [`NoArgs`] for none: give each a variable (`env`) and
    /// `hide_env_values = true`; their `Debug` is written to the log at start-up, so it must not show a secret.
    ///
    /// `participant` must not wait for anything: nothing is reachable yet.
    pub fn built<P: Into<Parts>>(
        name: &'static str,
        participant: impl FnOnce(&A, &Deps) -> Result<P, ServiceError> + Send + 'static,
    ) -> Self {
        Self {
            name,
            http_addr: "127.0.0.1:8080",
            migrations: &[],
            build: Box::new(|args, deps| participant(args, deps).map(Into::into)),
        }
    }

    /// Where it listens unless `HTTP_ADDR` says otherwise; `127.0.0.1:8080` when this is left out.
    #[must_use]
    pub fn http(self, address: &'static str) -> Self {
        Self { http_addr: address, ..self }
    }

    /// Its own tables. Those of the framework are added to them.
    #[must_use]
    pub fn migrations(self, migrations: &'static [Migration]) -> Self {
        Self { migrations, ..self }
    }

    /// Adds HTTP routes; the shell adds `/livez`, `/readyz`, `/readyz/http`, `/metrics` and `/participant`. They are called
    /// when it is their turn at the database, with the whole body of the request at hand.
    #[must_use]
    pub fn routes(self, routes: impl FnOnce(&Deps) -> Router + Send + 'static) -> Self {
        let build = self.build;
        let build: Build<A> = Box::new(move |args, deps| Ok(build(args, deps)?.with_routes(routes(deps))));
        Self { build, ..self }
    }

    /// Where it listens unless it is told otherwise.
    pub fn default_address(&self) -> &'static str {
        self.http_addr
    }

    /// The participant's name.
    pub fn name(&self) -> &'static str {
        self.name
    }
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
    /// Its own HTTP routes, see [`Service::routes`].
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

impl From<Participant<Db>> for Parts {
    fn from(participant: Participant<Db>) -> Self {
        Self::new(participant)
    }
}

/// No flags of its own.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct NoArgs {}

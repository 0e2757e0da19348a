//! Describing a service: participant, migrations, routes, settings.

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

/// A service's description. [`Service::run`] is the `main` of its binary.
pub struct Service<A = NoArgs> {
    pub(crate) name: &'static str,
    pub(crate) http_addr: &'static str,
    pub(crate) migrations: &'static [Migration],
    pub(crate) build: Build<A>,
}

type Build<A> = Box<dyn FnOnce(&A, &Deps) -> Result<Parts, ServiceError> + Send>;

impl<A: 'static> Service<A> {
    /// A service whose participant needs flags of the service's own, or its [`Deps`]. `name` is the participant's, for
    /// `--help`. `A` are the flags, [`NoArgs`] for none: give each a variable (`env`) and `hide_env_values = true`.
    /// Their `Debug` is logged at start-up, so it must not show a secret.
    ///
    /// `participant` must not wait for anything: nothing is connected yet.
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

    /// Sets the default of `HTTP_ADDR`, which is `127.0.0.1:8080` otherwise.
    #[must_use]
    pub fn http(self, address: &'static str) -> Self {
        Self { http_addr: address, ..self }
    }

    /// Sets the migrations of its own tables; the framework adds its own.
    #[must_use]
    pub fn migrations(self, migrations: &'static [Migration]) -> Self {
        Self { migrations, ..self }
    }

    /// Adds HTTP routes to `/livez`, `/readyz`, `/readyz/http`, `/metrics` and `/participant`. A handler runs when it
    /// is its turn at the database, with the whole body of its request.
    #[must_use]
    pub fn routes(self, routes: impl FnOnce(&Deps) -> Router + Send + 'static) -> Self {
        let build = self.build;
        let build: Build<A> = Box::new(move |args, deps| Ok(build(args, deps)?.with_routes(routes(deps))));
        Self { build, ..self }
    }

    /// The default address.
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
    /// The participant's database, perhaps not reachable yet. Routes are called only after it is prepared.
    pub db: Db,
    /// For publishing events outside any step, on a request.
    pub outbox: Outbox,
    /// For spans of the service's own.
    pub tracer: Arc<dyn Tracer>,
    /// The database's URL, for a service that needs a second database beside it.
    pub database_url: DatabaseUrl,
    /// The prefix of topics, groups and schemas.
    pub namespace: Namespace,
}

/// What a service consists of.
pub struct Parts {
    /// The participant.
    pub participant: Participant<Db>,
    /// Its own HTTP routes, see [`Service::routes`].
    pub routes: Router,
    /// Further databases that must be prepared before the service can work.
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

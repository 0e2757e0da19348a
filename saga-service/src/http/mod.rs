//! A service's HTTP server: its own routes, the common endpoints, and the layers before them.

mod accept_header;
mod connection;
mod connection_slots;
mod connection_state;
mod database_probe;
mod endpoints;
mod exposition;
mod layers;
mod queue;
mod server;
mod span;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Router, middleware, routing::get};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use saga_core::{graph::Declaration, runtime::Health, trace::Tracer};

pub(crate) use connection_slots::ConnectionSlots;
pub(crate) use connection_state::Limits;
pub(crate) use database_probe::DatabaseProbe;
pub(crate) use queue::RequestQueue;
pub(crate) use server::Server;

use crate::{
    metrics::{HttpMetrics, Tables},
    problem,
};

/// The state behind the common endpoints.
#[derive(Clone)]
pub(crate) struct Status {
    health: Health,
    registry: Arc<Registry>,
    tables: Tables,
    database: DatabaseProbe,
    reached: Arc<Reached>,
    ready: Gauge,
    scrapes: RequestQueue,
    /// The participant's, as JSON.
    declaration: Arc<str>,
}

/// The service's progress through start and stop.
#[derive(Default)]
struct Reached {
    prepared: AtomicBool,
    connected: AtomicBool,
    joined: AtomicBool,
    stopping: AtomicBool,
}

impl Status {
    pub(crate) fn new(
        health: Health,
        mut registry: Registry,
        tables: Tables,
        database: DatabaseProbe,
        declaration: &Declaration,
    ) -> Self {
        let ready = Gauge::default();
        let help = "Whether /readyz answers 200";
        registry.sub_registry_with_prefix("saga").register("ready", help, ready.clone());
        Self {
            health,
            registry: Arc::new(registry),
            tables,
            database,
            reached: Arc::default(),
            ready,
            scrapes: RequestQueue::for_scrapes(),
            declaration: declaration.to_json().to_string().into(),
        }
    }

    /// Marks that the databases are prepared and the service's own routes may use them.
    pub(crate) fn prepared(&self) {
        self.reached.prepared.store(true, Ordering::Release);
    }

    /// Marks that the broker has answered and the topics exist.
    pub(crate) fn connected(&self) {
        self.reached.connected.store(true, Ordering::Release);
    }

    /// Marks that the consumer has its assignment, perhaps an empty one.
    pub(crate) fn joined(&self) {
        self.reached.joined.store(true, Ordering::Release);
    }

    /// Marks that the service is stopping and takes no new requests.
    pub(crate) fn stopping(&self) {
        self.reached.stopping.store(true, Ordering::Release);
    }

    fn is_prepared(&self) -> bool {
        self.reached.prepared.load(Ordering::Acquire)
    }

    fn is_stopping(&self) -> bool {
        self.reached.stopping.load(Ordering::Acquire)
    }

    /// What keeps the service from being ready.
    fn waiting_for(&self) -> Vec<String> {
        let mut waiting = self.health.waiting_for();
        let mut unless_said = |what: &[&str], why: &str| {
            let said = waiting.iter().any(|said| what.iter().any(|what| said.starts_with(what)));
            if !said {
                waiting.push(format!("{}: {why}", what[0]));
            }
        };
        if !self.is_prepared() {
            unless_said(&["database"], "not connected yet");
        }
        if !self.reached.connected.load(Ordering::Acquire) {
            unless_said(&["broker", "topics"], "not connected yet");
        } else if !self.reached.joined.load(Ordering::Acquire) {
            unless_said(&["group", "broker", "topics"], "not joined yet");
        }
        if self.is_stopping() {
            unless_said(&["shutdown"], "stopping");
        }
        waiting
    }

    /// What keeps the service from taking requests. They need no broker: their events wait in the outbox.
    async fn requests_wait_for(&self) -> Vec<String> {
        let mut waiting = Vec::new();
        if !self.is_prepared() {
            let said = self.health.waiting_for().into_iter().find(|said| said.starts_with("database: "));
            waiting.push(said.unwrap_or_else(|| "database: not connected yet".to_owned()));
        } else if let Err(why) = self.database.answers().await {
            waiting.push(format!("database: {why}"));
        }
        if self.is_stopping() {
            waiting.push("shutdown: stopping".to_owned());
        }
        waiting
    }
}

/// All routes of a service.
pub(crate) fn app(
    routes: Router,
    status: Status,
    queue: RequestQueue,
    metrics: HttpMetrics,
    tracer: Arc<dyn Tracer>,
) -> Router {
    let own = if routes.has_routes() {
        routes
            .route_layer(middleware::from_fn_with_state(queue, queue::wait))
            .route_layer(middleware::from_fn_with_state(status.clone(), layers::prepared))
    } else {
        routes
    };
    let shell = Router::new()
        .route(endpoints::LIVEZ, get(endpoints::livez))
        .route(endpoints::READYZ, get(endpoints::readyz))
        .route(endpoints::READYZ_HTTP, get(endpoints::readyz_http))
        .route(endpoints::METRICS, get(endpoints::metrics))
        .route(endpoints::PARTICIPANT, get(endpoints::participant))
        .with_state(status.clone());
    own.merge(shell)
        .fallback(layers::not_found)
        .method_not_allowed_fallback(layers::method_not_allowed)
        .layer(middleware::from_fn(layers::timeout))
        .layer(middleware::from_fn(layers::catch_panic))
        .layer(middleware::from_fn(problem::normalise))
        .layer(middleware::from_fn_with_state(status, layers::close_when_stopping))
        .layer(middleware::from_fn_with_state(tracer, span::record))
        .layer(middleware::from_fn_with_state(metrics, layers::measure))
}

#[cfg(test)]
mod tests;

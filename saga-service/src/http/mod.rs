//! The HTTP side of a service: its own routes, the shell's, and the guards that stand before them.

mod endpoints;
mod exposition;
mod guards;
mod server;
mod span;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Router, middleware, routing::get};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use saga_core::{runtime::Health, trace::Tracer};

pub(crate) use server::serve;

use crate::{
    metrics::{HttpMetrics, Tables},
    problem,
};

/// What the shell's endpoints tell.
#[derive(Clone)]
pub(crate) struct Status {
    health: Health,
    registry: Arc<Registry>,
    tables: Tables,
    reached: Arc<Reached>,
    ready: Gauge,
}

/// How far the service has come.
#[derive(Default)]
struct Reached {
    prepared: AtomicBool,
    connected: AtomicBool,
    stopping: AtomicBool,
}

impl Status {
    pub(crate) fn new(health: Health, mut registry: Registry, tables: Tables) -> Self {
        let ready = Gauge::default();
        let help = "Whether /readyz answers 200";
        registry.sub_registry_with_prefix("saga").register("ready", help, ready.clone());
        Self { health, registry: Arc::new(registry), tables, reached: Arc::default(), ready }
    }

    /// The databases are prepared: the service's own routes may use them.
    pub(crate) fn prepared(&self) {
        self.reached.prepared.store(true, Ordering::Release);
    }

    /// The broker has answered, and the topics are there.
    pub(crate) fn connected(&self) {
        self.reached.connected.store(true, Ordering::Release);
    }

    /// Nobody should send anything new.
    pub(crate) fn stopping(&self) {
        self.reached.stopping.store(true, Ordering::Release);
    }

    fn is_prepared(&self) -> bool {
        self.reached.prepared.load(Ordering::Acquire)
    }

    /// Everything that keeps the service from being ready.
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
        }
        if self.reached.stopping.load(Ordering::Acquire) {
            unless_said(&["shutdown"], "stopping");
        }
        waiting
    }
}

/// All routes of a service.
pub(crate) fn app(routes: Router, status: Status, metrics: HttpMetrics, tracer: Arc<dyn Tracer>) -> Router {
    let own = if routes.has_routes() {
        routes.route_layer(middleware::from_fn_with_state(status.clone(), guards::prepared))
    } else {
        routes
    };
    let shell = Router::new()
        .route(endpoints::LIVEZ, get(endpoints::livez))
        .route(endpoints::READYZ, get(endpoints::readyz))
        .route(endpoints::METRICS, get(endpoints::metrics))
        .with_state(status);
    own.merge(shell)
        .fallback(guards::not_found)
        .method_not_allowed_fallback(guards::method_not_allowed)
        .layer(middleware::from_fn(guards::timeout))
        .layer(middleware::from_fn(guards::catch_panic))
        .layer(middleware::from_fn(problem::normalise))
        .layer(middleware::from_fn_with_state(tracer, span::tell))
        .layer(middleware::from_fn_with_state(metrics, guards::measure))
}

#[cfg(test)]
mod tests;

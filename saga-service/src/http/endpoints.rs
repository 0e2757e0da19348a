//! The endpoints of every service: `/livez`, `/readyz`, `/readyz/http`, `/metrics` and `/participant`.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use saga_core::clock::{Clock, SystemClock};
use serde::Serialize;

use super::{Status, accept_header, exposition};
use crate::problem::{Final, Problem};

/// The runtime's loop turns several times a second, even when idle. After this long without a turn it counts as
/// stalled.
const STALLED_AFTER: Duration = Duration::from_secs(30);

pub(super) const LIVEZ: &str = "/livez";
pub(super) const READYZ: &str = "/readyz";
pub(super) const READYZ_HTTP: &str = "/readyz/http";
pub(super) const METRICS: &str = "/metrics";
pub(super) const PARTICIPANT: &str = "/participant";

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Serialize)]
struct Liveness {
    alive: bool,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    waiting_for: Vec<String>,
}

/// Whether the process should keep running. The database and the broker do not matter: a restart fixes neither. A
/// process that was told to stop ends by itself.
pub(super) async fn livez(State(status): State<Status>) -> Response {
    let turns = status.health.last_turn().is_none_or(|turned| {
        // A clock that was set back proves nothing.
        let still = Duration::try_from(SystemClock.now().duration_since(turned)).unwrap_or_default();
        still < STALLED_AFTER
    });
    let alive = turns || status.is_stopping();
    let code = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Final::mark(), axum::Json(Liveness { alive })).into_response()
}

/// Whether the process takes its part in the choreography.
pub(super) async fn readyz(State(status): State<Status>) -> Response {
    readiness(status.waiting_for())
}

/// Whether the process can take requests.
pub(super) async fn readyz_http(State(status): State<Status>) -> Response {
    readiness(status.requests_wait_for().await)
}

fn readiness(waiting_for: Vec<String>) -> Response {
    let ready = waiting_for.is_empty();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Final::mark(), axum::Json(Readiness { ready, waiting_for })).into_response()
}

/// What the participant declares, for `saga --flow`.
pub(super) async fn participant(State(status): State<Status>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], status.declaration.to_string()).into_response()
}

pub(super) async fn metrics(State(status): State<Status>, headers: HeaderMap) -> Response {
    let Some(content_type) = accept_header::best(&headers, &[TEXT, OPEN_METRICS]) else {
        return Problem::new(StatusCode::NOT_ACCEPTABLE)
            .with_detail("metrics are written as text/plain and as application/openmetrics-text")
            .into_response();
    };
    let _turn = match status.scrapes.enter().await {
        Ok(turn) => turn,
        Err(problem) => return problem.into_response(),
    };
    if status.is_prepared() {
        status.tables.refresh().await;
    }
    status.ready.set(i64::from(status.waiting_for().is_empty()));
    let mut text = String::new();
    if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &status.registry) {
        return Problem::internal(&error).into_response();
    }
    let text = if content_type == OPEN_METRICS { text } else { exposition::classic(&text) };
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

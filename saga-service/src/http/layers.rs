//! Layers before the handlers: time limit, panics, readiness, request metrics.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;

use super::Status;
use crate::{metrics::HttpMetrics, problem::Problem};

/// Longer than any request takes whose database answers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn not_found() -> Problem {
    Problem::not_found("there is nothing at this path")
}

pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED).with_detail("this path does not support the method")
}

/// Refuses requests to the service's own routes before their tables exist.
pub(super) async fn prepared(State(status): State<Status>, request: Request, next: Next) -> Response {
    if status.is_prepared() {
        next.run(request).await
    } else {
        Problem::unavailable("the database is not prepared yet").into_response()
    }
}

/// Ends kept-alive connections with their next answer, before the server closes them.
pub(super) async fn close_when_stopping(State(status): State<Status>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if status.is_stopping() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

pub(super) async fn timeout(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::unavailable("the request took too long").into_response(),
    }
}

/// Turns a handler's panic into an error of its request.
pub(super) async fn catch_panic(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        // The panic hook has logged the message.
        Err(_) => Problem::internal(&"the handler panicked").into_response(),
    }
}

pub(super) async fn measure(State(metrics): State<HttpMetrics>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    metrics.observe(&method, route, response.status(), started.elapsed());
    response
}

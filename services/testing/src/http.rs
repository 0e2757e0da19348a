//! HTTP calls on routes, without a server.

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

/// A response with its body as JSON; null when the body is empty.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Value,
}

impl Answer {
    /// A header's text; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether it is a problem document of this status.
    pub fn is_problem(&self, status: u16) -> bool {
        self.status == status
            && self.header("content-type") == "application/problem+json"
            && self.body["status"] == status
    }
}

/// Calls a route: `call(&routes, "POST /orders", &[("idempotency-key", "k")], json!({..}))`. A null body sends none.
///
/// # Panics
/// When the request cannot be built, or the response is not JSON.
pub async fn call(routes: &Router, line: &str, headers: &[(&str, &str)], body: Value) -> Answer {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = if body.is_null() {
        request.body(Body::empty())
    } else {
        request.header("content-type", "application/json").body(Body::from(body.to_string()))
    };
    let response = routes.clone().oneshot(request.unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    Answer { status: parts.status, headers: parts.headers, body }
}

//! The HTTP client of demo and bench: calls the services as any customer does.

use std::net::SocketAddr;

use reqwest::{Client, Method, RequestBuilder, StatusCode, header::CONTENT_TYPE};
use serde_json::Value;

/// A request without the expected response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("{0} got no response: {1}")]
    NoResponse(String, String),
    #[error("{0} got the response {1}: {2}")]
    Unexpected(String, StatusCode, String),
}

/// Keeps its connections open between requests.
#[derive(Clone, Default)]
pub(crate) struct HttpClient(Client);

/// A response with its whole body.
pub(crate) struct HttpResponse {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    request: String,
}

impl HttpResponse {
    /// The body as JSON, if the status is this one.
    pub(crate) fn expect(self, status: StatusCode) -> Result<Value, HttpError> {
        match serde_json::from_str(&self.body) {
            Ok(body) if self.status == status => Ok(body),
            _ => Err(self.unexpected()),
        }
    }

    pub(crate) fn unexpected(self) -> HttpError {
        HttpError::Unexpected(self.request, self.status, self.body)
    }
}

impl HttpClient {
    pub(crate) async fn get(&self, at: SocketAddr, path: &str) -> Result<HttpResponse, HttpError> {
        self.send(Method::GET, at, path, |request| request).await
    }

    pub(crate) async fn put(&self, at: SocketAddr, path: &str, body: &Value) -> Result<HttpResponse, HttpError> {
        self.send(Method::PUT, at, path, |request| with_json(request, body)).await
    }

    /// Posts with an `Idempotency-Key`.
    pub(crate) async fn post(
        &self,
        at: SocketAddr,
        path: &str,
        key: &str,
        body: Option<&Value>,
    ) -> Result<HttpResponse, HttpError> {
        let prepare = |request: RequestBuilder| {
            let request = request.header("idempotency-key", key);
            match body {
                Some(body) => with_json(request, body),
                None => request,
            }
        };
        self.send(Method::POST, at, path, prepare).await
    }

    async fn send(
        &self,
        method: Method,
        at: SocketAddr,
        path: &str,
        prepare: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<HttpResponse, HttpError> {
        let url = format!("http://{at}{path}");
        let request = format!("{method} {url}");
        let failed = |error: reqwest::Error| HttpError::NoResponse(request.clone(), cause_of(&error));
        let response = prepare(self.0.request(method, url)).send().await.map_err(failed)?;
        let status = response.status();
        let body = response.bytes().await.map_err(failed)?;
        Ok(HttpResponse { status, body: String::from_utf8_lossy(&body).into_owned(), request })
    }
}

fn with_json(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request.header(CONTENT_TYPE, "application/json").body(body.to_string())
}

/// The innermost cause, such as `Connection refused`; reqwest's own text repeats the address.
fn cause_of(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.last().map_or_else(|| error.to_string(), ToString::to_string)
}

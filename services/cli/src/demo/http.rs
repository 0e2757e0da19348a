//! A small HTTP client: the demo orders as any customer does.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HOST},
    http::request::Builder,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// A request that was not answered as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("{0} was not answered: {1}")]
    Lost(String, String),
    #[error("{0} was answered with {1}: {2}")]
    Answer(String, StatusCode, String),
}

/// Keeps its connections.
#[derive(Clone)]
pub(crate) struct Http(Client<HttpConnector, Full<Bytes>>);

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    asked: String,
}

impl Answer {
    /// The body as JSON, if the status is this one.
    pub(crate) fn expect(self, status: StatusCode) -> Result<Value, HttpError> {
        match serde_json::from_str(&self.body) {
            Ok(body) if self.status == status => Ok(body),
            _ => Err(self.unexpected()),
        }
    }

    pub(crate) fn unexpected(self) -> HttpError {
        HttpError::Answer(self.asked, self.status, self.body)
    }
}

impl Http {
    pub(crate) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    pub(crate) async fn get(&self, at: SocketAddr, path: &str) -> Result<Answer, HttpError> {
        self.send(Request::builder().method(Method::GET), at, path, None).await
    }

    pub(crate) async fn put(&self, at: SocketAddr, path: &str, body: &Value) -> Result<Answer, HttpError> {
        self.send(Request::builder().method(Method::PUT), at, path, Some(body)).await
    }

    /// With an `Idempotency-Key`.
    pub(crate) async fn post(
        &self,
        at: SocketAddr,
        path: &str,
        key: &str,
        body: Option<&Value>,
    ) -> Result<Answer, HttpError> {
        let request = Request::builder().method(Method::POST).header("idempotency-key", key);
        self.send(request, at, path, body).await
    }

    async fn send(
        &self,
        request: Builder,
        at: SocketAddr,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, HttpError> {
        let url = format!("http://{at}{path}");
        let asked = format!("{} {url}", request.method_ref().unwrap_or(&Method::GET));
        let lost = |error: &dyn std::fmt::Display| HttpError::Lost(asked.clone(), error.to_string());
        let mut request = request.uri(url).header(HOST, at.to_string());
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(bytes))).map_err(|e| lost(&e))?;
        let answer = self.0.request(request).await.map_err(|e| lost(&e))?;
        let status = answer.status();
        let bytes = answer.into_body().collect().await.map_err(|e| lost(&e))?.to_bytes();
        Ok(Answer { status, body: String::from_utf8_lossy(&bytes).into_owned(), asked })
    }
}

//! The exporter's HTTP client: blocking, as the exporting thread wants it, and bounded in time and in memory.

use std::{io::Read, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::http::{HeaderName, HeaderValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tracing::dispatcher::{self, Dispatch};
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

use super::flow::Flow;
use crate::config::{Export, Wire};

/// An answer says how many spans were rejected and why.
const MAX_ANSWER: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    headers: Headers,
    timeout: Duration,
    wire: Wire,
    flow: Arc<Flow>,
}

/// Some are secrets.
struct Headers(Vec<(HeaderName, HeaderValue)>);

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Client {
    pub(super) fn new(export: &Export, flow: Arc<Flow>) -> Self {
        let agent = Agent::config_builder()
            .tls_config(tls(export))
            .http_status_as_error(false)
            // Spans go where the operator says, not where an answer or a variable meant for others says.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .build()
            .new_agent();
        Self { agent, headers: Headers(export.headers.clone()), timeout: export.timeout, wire: export.wire, flow }
    }

    fn send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let timeout = self.flow.time_left(self.timeout).ok_or("the service ends")?;
        for (name, value) in &self.headers.0 {
            request.headers_mut().insert(name, value.clone());
        }
        let (head, body) = request.into_parts();
        let request = Request::from_parts(head, &body[..]);
        let request = self.agent.configure_request(request).timeout_global(Some(timeout)).build();
        let (head, body) = self.agent.run(request)?.into_parts();
        let mut bytes = Vec::new();
        body.into_reader().take(MAX_ANSWER + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_ANSWER {
            return Err("the answer is too long".into());
        }
        if head.status.is_success() {
            self.flow.reject(rejected(self.wire, &bytes));
        } else {
            self.flow.because(head.status.to_string());
        }
        Ok(Response::from_parts(head, bytes.into()))
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // At the level of traces, the library logs every byte of a request, and some of its headers are secrets.
        let sent = dispatcher::with_default(&Dispatch::none(), || self.send(request));
        sent.inspect_err(|error| self.flow.because(error.to_string()))
    }
}

/// How many spans a success is not for.
fn rejected(wire: Wire, answer: &[u8]) -> u64 {
    let answer: Option<ExportTraceServiceResponse> = match wire {
        Wire::Protobuf => Message::decode(answer).ok(),
        Wire::Json => serde_json::from_slice(answer).ok(),
    };
    let rejected = answer.and_then(|answer| answer.partial_success).map_or(0, |partial| partial.rejected_spans);
    u64::try_from(rejected).unwrap_or_default()
}

fn tls(export: &Export) -> TlsConfig {
    let roots = match &export.roots {
        Some(roots) => RootCerts::new_with_certs(roots),
        // Reading them takes a while.
        None if export.endpoint.starts_with("http://") => RootCerts::new_with_certs(&[]),
        None => {
            let native = rustls_native_certs::load_native_certs().certs;
            let native: Vec<_> = native.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
            RootCerts::new_with_certs(&native)
        }
    };
    TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(roots)
        .client_cert(export.identity.clone())
        .build()
}

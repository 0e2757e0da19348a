//! The OTLP exporter, watched: what it takes, what it loses, and when it is better not asked.

use std::sync::Arc;

use opentelemetry_otlp::{Compression, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{self, SpanData},
};

use super::{client::Client, flow::Flow};
use crate::{
    config::{Export, Wire},
    error::ServiceError,
};

#[derive(Debug)]
pub(super) struct Exporter {
    inner: SpanExporter,
    flow: Arc<Flow>,
}

impl Exporter {
    pub(super) fn new(export: &Export, flow: Arc<Flow>) -> Result<Self, ServiceError> {
        let protocol = match export.wire {
            Wire::Protobuf => Protocol::HttpBinary,
            Wire::Json => Protocol::HttpJson,
        };
        let mut builder = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(export, flow.clone()))
            // A try that failed shuts the gate, and the next one is made when it opens again.
            .with_retry_policy(RetryPolicy::disabled())
            .with_endpoint(export.endpoint.as_str())
            .with_protocol(protocol)
            .with_timeout(export.timeout);
        if export.gzip {
            builder = builder.with_compression(Compression::Gzip);
        }
        let inner = builder.build().map_err(|error| ServiceError::config("OTEL_EXPORTER_OTLP_*", error.to_string()))?;
        Ok(Self { inner, flow })
    }
}

impl trace::SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.flow.left(spans);
        // What was recorded before the gate was shut. A collector that does not answer would hold each batch for long,
        // and the queue would be full of what is old when it is back.
        if !self.flow.gate.is_open() || self.flow.is_over() {
            self.flow.lost(spans);
            return Err(OTelSdkError::InternalFailure("not tried".to_owned()));
        }
        let result = trace::SpanExporter::export(&self.inner, batch).await;
        match &result {
            Ok(()) => self.flow.succeeded(spans),
            Err(error) => self.flow.failed(spans, error),
        }
        result
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

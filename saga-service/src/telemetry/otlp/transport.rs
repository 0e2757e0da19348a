//! OTLP over HTTP and gRPC, as the OpenTelemetry crates do it, with our certificates.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, hyper::HyperClient};
use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
    tonic_types::{
        metadata::MetadataMap,
        transport::{Certificate, ClientTlsConfig, Identity},
    },
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::tally::Reason;
use crate::{config::Export, error::ServiceError};

/// Must be called inside the runtime that the exporter is to run on.
pub(super) fn exporter(export: &Export, reason: Reason) -> Result<SpanExporter, ServiceError> {
    // Its messages quote values, which may be secrets.
    let wrong = |_| ServiceError::config("OTEL_EXPORTER_OTLP_*", "no exporter can be made of these settings");
    match export.protocol {
        Protocol::Grpc => {
            let builder = SpanExporter::builder()
                .with_tonic()
                .with_endpoint(export.endpoint.as_str())
                .with_timeout(export.timeout)
                .with_metadata(MetadataMap::from_headers(export.headers.clone()));
            let secured = !export.endpoint.starts_with("http://");
            let builder = if secured { builder.with_tls_config(grpc_tls(export)) } else { builder };
            builder.build().map_err(wrong)
        }
        protocol => {
            let headers = export.headers.iter();
            let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
            let builder = SpanExporter::builder()
                .with_http()
                .with_protocol(protocol)
                .with_endpoint(export.endpoint.as_str())
                .with_timeout(export.timeout)
                .with_headers(headers.collect::<HashMap<_, _>>())
                .with_http_client(Client::new(export, reason)?);
            builder.build().map_err(wrong)
        }
    }
}

fn grpc_tls(export: &Export) -> ClientTlsConfig {
    let tls = match &export.roots {
        Some(roots) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    match &export.identity {
        Some(identity) => tls.identity(Identity::from_pem(&identity.chain, &identity.key)),
        None => tls,
    }
}

/// Follows no redirect and knows no proxy: spans go where the operator says, not where an answer or a variable meant for
/// others says.
#[derive(Debug)]
struct Client {
    inner: HyperClient<HttpsConnector<HttpConnector>>,
    /// The exporter keeps it to itself.
    reason: Reason,
}

impl Client {
    fn new(export: &Export, reason: Reason) -> Result<Self, ServiceError> {
        let connector = HttpsConnectorBuilder::new().with_tls_config(http_tls(export)?).https_or_http().enable_http1();
        Ok(Self { inner: HyperClient::new(connector.build(), export.timeout, None), reason })
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.inner.send_bytes(request).await.inspect_err(|error| self.reason.is(&**error))
    }
}

fn http_tls(export: &Export) -> Result<ClientConfig, ServiceError> {
    let wrong =
        |error: &dyn std::fmt::Display| ServiceError::config("OTEL_EXPORTER_OTLP_CERTIFICATE", error.to_string());
    let pem = |text: &[u8]| CertificateDer::pem_slice_iter(text).filter_map(Result::ok).collect::<Vec<_>>();
    let mut roots = RootCertStore::empty();
    match &export.roots {
        Some(own) => roots.add_parsable_certificates(pem(own)),
        // Reading the system's takes a while.
        None if export.endpoint.starts_with("http://") => (0, 0),
        None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?
        .with_root_certificates(roots);
    let Some(identity) = &export.identity else { return Ok(config.with_no_client_auth()) };
    let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(|error| wrong(&error))?;
    config.with_client_auth_cert(pem(&identity.chain), key).map_err(|error| wrong(&error))
}

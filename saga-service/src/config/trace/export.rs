//! How spans are exported: what of `OTEL_EXPORTER_OTLP_*` and `OTEL_BSP_*` the OpenTelemetry crates do not read themselves,
//! and warnings about what they read.

use std::{fmt, fs, time::Duration};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use opentelemetry_otlp::Protocol;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{
    super::fault::ConfigError,
    variables::{Variables, otlp_names, pairs},
};

const PATH: &str = "/v1/traces";
const GRPC_PORT: u16 = 4317;
const HTTP_PORT: u16 = 4318;

/// What is kept until it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) size: usize,
    pub(crate) batch: usize,
    pub(crate) delay: Duration,
}

/// Who this process is to the collector: certificates and their key, in PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

#[derive(Clone)]
pub(crate) struct Export {
    /// With its path over HTTP; over gRPC it may have no scheme.
    pub(crate) endpoint: String,
    pub(crate) protocol: Protocol,
    /// Of a file: those of a variable are read by the exporter.
    pub(crate) headers: HeaderMap,
    /// For one batch, with its retries.
    pub(crate) timeout: Duration,
    /// The authorities to trust instead of the system's, in PEM.
    pub(crate) roots: Option<Vec<u8>>,
    pub(crate) identity: Option<Identity>,
    pub(crate) queue: Queue,
}

impl Export {
    /// # Errors
    /// Where going on would send spans to a place that was not named, or over a connection that is less secured than it
    /// was asked to be: when the endpoint is no URL or holds credentials, or when a file cannot be used. The
    /// specification leaves these to us. Everything else that is wrong is warned of.
    pub(super) fn of(variables: &Variables) -> Result<Self, ConfigError> {
        let protocol = protocol(variables);
        warn_of_what_the_exporter_ignores(variables);
        Ok(Self {
            endpoint: endpoint(variables, protocol)?,
            protocol,
            headers: headers_of_a_file(variables)?,
            timeout: Duration::from_millis(variables.otlp_number("TIMEOUT", 10_000, 1..=600_000)),
            roots: variables.otlp("CERTIFICATE").map(|(name, path)| certificates(&name, path)).transpose()?,
            identity: identity(variables)?,
            queue: queue(variables),
        })
    }

    /// The endpoint as log lines show it. A query may contain a key.
    pub(crate) fn shown(&self) -> String {
        self.endpoint.split(['?', '#']).next().unwrap_or_default().to_owned()
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp")
            .field("endpoint", &self.shown())
            .field("protocol", &self.protocol)
            .field("headers", &self.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>())
            .field("timeout", &self.timeout)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

fn protocol(variables: &Variables) -> Protocol {
    variables.otlp_choice(
        "PROTOCOL",
        &[("http/protobuf", Protocol::HttpBinary), ("http/json", Protocol::HttpJson), ("grpc", Protocol::Grpc)],
    )
}

fn endpoint(variables: &Variables, protocol: Protocol) -> Result<String, ConfigError> {
    let grpc = protocol == Protocol::Grpc;
    let (name, url) = endpoint_of(variables, grpc);
    let wrong = |what| Err(ConfigError::of(name, what));
    // Wherever it stands: what comes before it may be a password that was cut, and what comes after it the rest of one.
    if url.contains('@') {
        return wrong("must hold no credentials; put them into OTEL_EXPORTER_OTLP_HEADERS_FILE (elsewhere, @ is %40)");
    }
    // Over gRPC, `host:port` is an endpoint too; OTEL_EXPORTER_OTLP_INSECURE says whether it is secured.
    let has_scheme = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
    let is_host_and_port = |uri: &Uri| grpc && uri.scheme().is_none() && uri.port().is_some();
    let uri = url.parse::<Uri>().ok().filter(|uri| has_scheme(uri) || is_host_and_port(uri));
    match uri.map(|uri| uri.port_u16()) {
        None if grpc => return wrong("must be a URL, such as http://localhost:4317"),
        None => return wrong("must be a URL, such as http://localhost:4318"),
        Some(Some(GRPC_PORT)) if !grpc => variables.warn(
            name,
            format!("port {GRPC_PORT} is usually that of OTLP/gRPC; that of OTLP/HTTP is usually {HTTP_PORT}"),
        ),
        Some(Some(HTTP_PORT)) if grpc => variables.warn(
            name,
            format!("port {HTTP_PORT} is usually that of OTLP/HTTP; that of OTLP/gRPC is usually {GRPC_PORT}"),
        ),
        Some(_) => {}
    }
    Ok(url)
}

/// The variable that says where to, and the endpoint of traces. It is handed to the exporter as it was checked.
fn endpoint_of(variables: &Variables, grpc: bool) -> (&'static str, String) {
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    match (variables.get(TRACES), variables.get(ALL)) {
        (Some(url), _) => (TRACES, url.to_owned()),
        (None, base) if grpc => (ALL, base.unwrap_or("http://localhost:4317").to_owned()),
        (None, base) => (ALL, below(base.unwrap_or("http://localhost:4318"))),
    }
}

/// The path of traces below a URL, which may have a query.
fn below(base: &str) -> String {
    let (path, query) = base.find('?').map_or((base, ""), |query| base.split_at(query));
    format!("{}{PATH}{query}", path.trim_end_matches('/'))
}

/// The exporter leaves out in silence what it cannot read.
fn warn_of_what_the_exporter_ignores(variables: &Variables) {
    variables.otlp_choice("COMPRESSION", &[("none", ()), ("gzip", ())]);
    if let Some((name, text)) = variables.otlp("HEADERS") {
        headers(variables, &name, text);
    }
}

fn headers_of_a_file(variables: &Variables) -> Result<HeaderMap, ConfigError> {
    let Some((name, text)) = variables.otlp_secret_file("HEADERS")? else { return Ok(HeaderMap::new()) };
    Ok(headers(variables, &name, &text))
}

/// `key=value` pairs, those that HTTP does not allow left out and warned of.
fn headers(variables: &Variables, name: &str, text: &str) -> HeaderMap {
    let header = |pair: Option<(String, String)>| {
        let (key, value) = pair?;
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(key).ok()?, value))
    };
    let headers: Vec<_> = pairs(text).map(header).collect();
    let wrong = headers.iter().filter(|header| header.is_none()).count();
    if wrong > 0 {
        let rule = "must be key=value, or several separated by commas, percent-encoded, that HTTP allows in a header";
        variables.warn(name, format!("{rule}; {wrong} of {} are left out", headers.len()));
    }
    headers.into_iter().flatten().collect()
}

/// Read here, since the SDK takes a delay of 0 for a loop without a pause, and does not tell how many spans it drops.
fn queue(variables: &Variables) -> Queue {
    Queue {
        size: variables.number(&["OTEL_BSP_MAX_QUEUE_SIZE"], 2048, 1..=1_000_000),
        batch: variables.number(&["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"], 512, 1..=1_000_000),
        delay: Duration::from_millis(variables.number(&["OTEL_BSP_SCHEDULE_DELAY"], 5000, 1..=600_000)),
    }
}

fn identity(variables: &Variables) -> Result<Option<Identity>, ConfigError> {
    match (variables.otlp("CLIENT_CERTIFICATE"), variables.otlp("CLIENT_KEY")) {
        (None, None) => Ok(None),
        (Some((chain_name, chain)), Some((key_name, key))) => {
            let (chain, pem) = (certificates(&chain_name, chain)?, file(&key_name, key)?);
            PrivateKeyDer::from_pem_slice(&pem)
                .map_err(|_| ConfigError::of(&key_name, format!("{key} holds no private key in PEM")))?;
            Ok(Some(Identity { chain, key: pem }))
        }
        (Some((name, _)), None) => Err(ConfigError::of(&name, format!("needs {} too", otlp_names("CLIENT_KEY")[1]))),
        (None, Some((name, _))) => {
            Err(ConfigError::of(&name, format!("needs {} too", otlp_names("CLIENT_CERTIFICATE")[1])))
        }
    }
}

/// The file's text, once it is known to hold certificates.
fn certificates(name: &str, path: &str) -> Result<Vec<u8>, ConfigError> {
    let pem = file(name, path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    if certificates.is_empty() {
        return Err(ConfigError::of(name, format!("{path} holds no certificate in PEM")));
    }
    Ok(pem)
}

fn file(name: &str, path: &str) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|error| ConfigError::of(name, format!("cannot read {path}: {error}")))
}

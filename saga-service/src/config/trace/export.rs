//! How spans are exported: `OTEL_EXPORTER_OTLP_*` and `OTEL_BSP_*`.

use std::{fmt, fs, time::Duration};

use axum::http::{HeaderName, HeaderValue, Uri};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, parse_pem};

use super::{
    super::fault::ConfigError,
    variables::{Variables, pairs},
};

const ENDPOINT: &str = "http://localhost:4318";
const PATH: &str = "/v1/traces";
const GRPC_PORT: u16 = 4317;

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Protobuf,
    Json,
}

/// What is kept until it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) size: usize,
    pub(crate) batch: usize,
    pub(crate) delay: Duration,
}

#[derive(Clone)]
pub(crate) struct Export {
    /// The whole URL.
    pub(crate) endpoint: String,
    pub(crate) wire: Wire,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) gzip: bool,
    pub(crate) timeout: Duration,
    /// Instead of the system's.
    pub(crate) roots: Option<Vec<Certificate<'static>>>,
    pub(crate) identity: Option<ClientCert>,
    pub(crate) queue: Queue,
}

impl Export {
    /// # Errors
    /// Where going on would send spans to a place that nobody named, or over a connection that is less secured than it
    /// was asked to be: when the endpoint is no URL or holds credentials, or when a file cannot be used. The
    /// specification leaves these to us. Everything else that is wrong is warned of.
    pub(super) fn of(variables: &Variables) -> Result<Self, ConfigError> {
        Ok(Self {
            endpoint: endpoint(variables)?,
            wire: wire(variables),
            headers: headers(variables)?,
            gzip: variables.otlp_choice("COMPRESSION", &[("none", false), ("gzip", true)]),
            timeout: Duration::from_millis(variables.otlp_number("TIMEOUT", 10_000, 1..=600_000)),
            roots: variables.otlp("CERTIFICATE").map(|(name, path)| certificates(&name, path)).transpose()?,
            identity: identity(variables)?,
            queue: queue(variables),
        })
    }

    /// The endpoint for whoever reads the log. What stands behind the path may be a key.
    pub(crate) fn shown(&self) -> String {
        self.endpoint.split(['?', '#']).next().unwrap_or_default().to_owned()
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp")
            .field("endpoint", &self.shown())
            .field("wire", &self.wire)
            .field("headers", &self.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())
            .field("gzip", &self.gzip)
            .field("timeout", &self.timeout)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

fn endpoint(variables: &Variables) -> Result<String, ConfigError> {
    let (name, url) = endpoint_of(variables);
    let wrong = |what| Err(ConfigError::of(name, what));
    let Some(uri) = url.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https"))) else {
        return wrong("must be a URL, such as http://localhost:4318");
    };
    // Wherever it stands: what comes before it may be a password that was cut, and what comes after it the rest of one.
    if url.contains('@') {
        return wrong("must hold no credentials; put them into OTEL_EXPORTER_OTLP_HEADERS_FILE (elsewhere, @ is %40)");
    }
    if uri.port_u16() == Some(GRPC_PORT) && asks_for_grpc(variables) {
        variables
            .warn(name, format!("port {GRPC_PORT} is usually that of OTLP/gRPC; that of OTLP/HTTP is usually 4318"));
    }
    Ok(url)
}

/// The variable that says where to, and the URL of traces.
fn endpoint_of(variables: &Variables) -> (&'static str, String) {
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    match (variables.get(TRACES), variables.get(ALL)) {
        (Some(url), _) => (TRACES, url.to_owned()),
        (None, base) => (ALL, below(base.unwrap_or(ENDPOINT))),
    }
}

/// The path of traces below a URL, which may have a query.
fn below(base: &str) -> String {
    let (path, query) = base.find('?').map_or((base, ""), |query| base.split_at(query));
    format!("{}{PATH}{query}", path.trim_end_matches('/'))
}

/// `grpc`, which is often set for a whole cluster, is one of those that are warned of.
fn wire(variables: &Variables) -> Wire {
    variables.otlp_choice("PROTOCOL", &[("http/protobuf", Wire::Protobuf), ("http/json", Wire::Json)])
}

fn asks_for_grpc(variables: &Variables) -> bool {
    variables.otlp("PROTOCOL").is_some_and(|(_, protocol)| protocol.eq_ignore_ascii_case("grpc"))
}

fn headers(variables: &Variables) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    let Some((name, text)) = variables.otlp_secret("HEADERS")? else { return Ok(Vec::new()) };
    let header = |pair: Option<(String, String)>| {
        let (key, value) = pair?;
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(key).ok()?, value))
    };
    let headers: Vec<_> = pairs(&text).map(header).collect();
    let wrong = headers.iter().filter(|header| header.is_none()).count();
    if wrong > 0 {
        let rule = "must be key=value, or several separated by commas, percent-encoded, that HTTP allows in a header";
        variables.warn(&name, format!("{rule}; {wrong} of {} are left out", headers.len()));
    }
    Ok(headers.into_iter().flatten().collect())
}

fn queue(variables: &Variables) -> Queue {
    Queue {
        size: variables.number(&["OTEL_BSP_MAX_QUEUE_SIZE"], 2048, 1..=1_000_000),
        batch: variables.number(&["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"], 512, 1..=1_000_000),
        delay: Duration::from_millis(variables.number(&["OTEL_BSP_SCHEDULE_DELAY"], 5000, 1..=600_000)),
    }
}

fn identity(variables: &Variables) -> Result<Option<ClientCert>, ConfigError> {
    match (variables.otlp("CLIENT_CERTIFICATE"), variables.otlp("CLIENT_KEY")) {
        (None, None) => Ok(None),
        (Some((chain_name, chain)), Some((key_name, key))) => {
            let chain = certificates(&chain_name, chain)?;
            let key = PrivateKey::from_pem(&file(&key_name, key)?)
                .map_err(|_| ConfigError::of(&key_name, format!("{key} holds no private key in PEM")))?;
            Ok(Some(ClientCert::new_with_certs(&chain, key)))
        }
        (Some((name, _)), None) => Err(ConfigError::of(&name, "needs OTEL_EXPORTER_OTLP_CLIENT_KEY too")),
        (None, Some((name, _))) => Err(ConfigError::of(&name, "needs OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE too")),
    }
}

fn certificates(name: &str, path: &str) -> Result<Vec<Certificate<'static>>, ConfigError> {
    let pem = file(name, path)?;
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(_) => Some(Err(())),
    };
    let certificates = parse_pem(&pem).filter_map(certificate).collect::<Result<Vec<_>, ()>>().unwrap_or_default();
    if certificates.is_empty() {
        return Err(ConfigError::of(name, format!("{path} holds no certificate in PEM")));
    }
    Ok(certificates)
}

fn file(name: &str, path: &str) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|error| ConfigError::of(name, format!("cannot read {path}: {error}")))
}

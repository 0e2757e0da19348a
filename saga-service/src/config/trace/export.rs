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
    pub(super) fn of(variables: &Variables) -> Result<Self, ConfigError> {
        let timeout = variables.otlp("TIMEOUT");
        let (timeout_name, timeout) = timeout.map_or_else(Default::default, |(name, value)| (name, Some(value)));
        let timeout = Variables::number(&timeout_name, timeout, 10_000, 1..=600_000)?;
        Ok(Self {
            endpoint: endpoint(variables)?,
            wire: wire(variables)?,
            headers: headers(variables)?,
            gzip: gzip(variables)?,
            timeout: Duration::from_millis(timeout),
            roots: variables.otlp("CERTIFICATE").map(|(name, path)| certificates(&name, path)).transpose()?,
            identity: identity(variables)?,
            queue: queue(variables)?,
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
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let (name, url) = match (variables.get(TRACES), variables.get(ALL)) {
        (Some(url), _) => (TRACES, url.to_owned()),
        (None, base) => (ALL, below(base.unwrap_or(ENDPOINT))),
    };
    let wrong = |what| Err(ConfigError::of(name, what));
    let Some(uri) = url.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https"))) else {
        return wrong("must be a URL, such as http://localhost:4318");
    };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return wrong("must hold no credentials; put them into OTEL_EXPORTER_OTLP_HEADERS");
    }
    Ok(url)
}

/// The path of traces below a URL, which may have a query.
fn below(base: &str) -> String {
    let (path, query) = base.find('?').map_or((base, ""), |query| base.split_at(query));
    format!("{}{PATH}{query}", path.trim_end_matches('/'))
}

fn wire(variables: &Variables) -> Result<Wire, ConfigError> {
    match variables.otlp("PROTOCOL") {
        None => Ok(Wire::Protobuf),
        Some((name, value)) => match value {
            "http/protobuf" => Ok(Wire::Protobuf),
            "http/json" => Ok(Wire::Json),
            "grpc" => Err(ConfigError::of(
                &name,
                "grpc is not supported; use http/protobuf, which collectors take on port 4318",
            )),
            _ => Err(ConfigError::of(&name, "must be http/protobuf or http/json")),
        },
    }
}

fn headers(variables: &Variables) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    let Some((name, text)) = variables.otlp("HEADERS") else { return Ok(Vec::new()) };
    let header = |(key, value): (String, String)| {
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(key).ok()?, value))
    };
    let headers = pairs(&name, text)?.into_iter().map(header).collect::<Option<_>>();
    headers.ok_or_else(|| ConfigError::of(&name, "must be names and values that HTTP allows in a header"))
}

fn gzip(variables: &Variables) -> Result<bool, ConfigError> {
    match variables.otlp("COMPRESSION") {
        None => Ok(false),
        Some((name, value)) => match value {
            "gzip" => Ok(true),
            "none" => Ok(false),
            _ => Err(ConfigError::of(&name, "must be gzip or none")),
        },
    }
}

fn queue(variables: &Variables) -> Result<Queue, ConfigError> {
    let number = |name, default, range| Variables::number(name, variables.get(name), default, range);
    Ok(Queue {
        size: number("OTEL_BSP_MAX_QUEUE_SIZE", 2048, 1..=1_000_000)?,
        batch: number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1..=1_000_000)?,
        delay: Duration::from_millis(number("OTEL_BSP_SCHEDULE_DELAY", 5000, 1..=600_000)? as u64),
    })
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

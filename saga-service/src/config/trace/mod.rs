//! The standard `OTEL_*` variables: whether spans are recorded, which, and where they go.

mod export;
mod variables;

use std::{ffi::OsString, fmt};

use super::fault::ConfigError;
use crate::telemetry::Sampling;
use variables::{Variables, pairs};

pub(crate) use export::Export;

/// Which spans are recorded and where they go. The default records nothing and hands contexts on.
#[derive(Clone)]
pub struct TraceConfig {
    pub(crate) export: Option<Export>,
    pub(crate) sampling: Sampling,
    /// Whether contexts are read and handed on.
    pub(crate) propagates: bool,
    /// Settings that are not used as they are written, each by the name of its variable. For the log.
    pub(crate) warnings: Vec<String>,
}

/// For `--help`.
pub(super) const HELP: &str = "Traces go to an OpenTelemetry collector, by OTLP over HTTP or gRPC. The standard variables say how; \
they are variables only, without a flag, and one that is wrong is warned of: OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER \
(otlp or none), OTEL_EXPORTER_OTLP_ENDPOINT (default http://localhost:4318, for grpc http://localhost:4317), _PROTOCOL \
(http/protobuf, http/json or grpc), _INSECURE (for grpc, of an endpoint without http:// or https://), _HEADERS, \
_HEADERS_FILE (a file that holds them), _COMPRESSION (gzip), _TIMEOUT, _CERTIFICATE, _CLIENT_KEY, \
_CLIENT_CERTIFICATE, each also as OTEL_EXPORTER_OTLP_TRACES_*; OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG, \
OTEL_PROPAGATORS (tracecontext; baggage is accepted, and not handed on; none), OTEL_SERVICE_NAME, \
OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_*.";

impl TraceConfig {
    /// What these variables say, by the OpenTelemetry specification; without any, spans go to `http://localhost:4318`.
    ///
    /// The OpenTelemetry crates read some variables of the process themselves, when the exporter starts:
    /// `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SPAN_*_LIMIT`, and `HEADERS`, `COMPRESSION` and `INSECURE`
    /// of `OTEL_EXPORTER_OTLP_*`. Those are only checked here.
    ///
    /// `baggage` among the propagators is accepted since it is so by default, but nothing here reads baggage, and it is
    /// not handed on.
    ///
    /// A value that is not known or cannot be read is warned of in the log of the service, and counts as not set.
    ///
    /// # Errors
    /// When a file that is named cannot be used, or the endpoint is no URL: going on without would be silently unsafe.
    pub fn of(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let variables = Variables::of(environment);
        let mut config = Self { propagates: propagates(&variables), ..Self::default() };
        if !disabled(&variables) && exports(&variables) {
            config.export = Some(Export::of(&variables)?);
            config.sampling = sampling(&variables);
            warn_of_attributes(&variables);
        }
        config.warnings = variables.into_warnings();
        Ok(config)
    }
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self { export: None, sampling: Sampling::default(), propagates: true, warnings: Vec::new() }
    }
}

impl fmt::Debug for TraceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.export {
            Some(export) => fmt::Debug::fmt(export, f),
            None => f.write_str("off"),
        }
    }
}

/// Only `true` is true.
fn disabled(variables: &Variables) -> bool {
    variables.choice(&["OTEL_SDK_DISABLED"], &[("false", false), ("true", true)])
}

/// Of a list, what exists here: `otlp` before `none`.
fn exports(variables: &Variables) -> bool {
    const NAME: &str = "OTEL_TRACES_EXPORTER";
    let list = variables.get(NAME).unwrap_or("otlp").to_ascii_lowercase();
    let named: Vec<_> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let exports = named.contains(&"otlp") || !named.contains(&"none");
    let used = if exports { "otlp" } else { "none" };
    if named.iter().any(|name| *name != used) {
        variables.warn(NAME, format!("must be otlp or none; {used} is used, and nothing else"));
    }
    exports
}

fn sampling(variables: &Variables) -> Sampling {
    let (share, parent_based) = variables.choice(
        &["OTEL_TRACES_SAMPLER"],
        &[
            ("parentbased_always_on", (Some(Sampling::ALWAYS_ON), true)),
            ("parentbased_always_off", (Some(Sampling::ALWAYS_OFF), true)),
            ("parentbased_traceidratio", (None, true)),
            ("always_on", (Some(Sampling::ALWAYS_ON), false)),
            ("always_off", (Some(Sampling::ALWAYS_OFF), false)),
            ("traceidratio", (None, false)),
        ],
    );
    let sampling = share.unwrap_or_else(|| ratio(variables));
    if parent_based { sampling.parent_based() } else { sampling }
}

/// Looked at only by the samplers that take one; 1 by default, as the specification has it.
fn ratio(variables: &Variables) -> Sampling {
    const NAME: &str = "OTEL_TRACES_SAMPLER_ARG";
    let Some(text) = variables.get(NAME) else { return Sampling::ALWAYS_ON };
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Sampling::ratio(share),
        _ => {
            variables.warn(NAME, "must be a number from 0 to 1, such as 0.25; 1 is used instead");
            Sampling::ALWAYS_ON
        }
    }
}

/// The SDK, which reads them, leaves out in silence what is no pair.
fn warn_of_attributes(variables: &Variables) {
    const NAME: &str = "OTEL_RESOURCE_ATTRIBUTES";
    let all: Vec<_> = variables.get(NAME).map(|text| pairs(text).collect()).unwrap_or_default();
    let wrong = all.iter().filter(|pair| pair.is_none()).count();
    if wrong > 0 {
        let rule = "must be key=value, or several separated by commas";
        variables.warn(NAME, format!("{rule}; {wrong} of {} are left out", all.len()));
    }
}

/// Whether contexts are handed on.
fn propagates(variables: &Variables) -> bool {
    const NAME: &str = "OTEL_PROPAGATORS";
    let list = variables.get(NAME).unwrap_or("tracecontext,baggage").to_ascii_lowercase();
    let named: Vec<_> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let propagates = named.contains(&"tracecontext") && !named.contains(&"none");
    if named.iter().any(|name| !["tracecontext", "baggage", "none"].contains(name)) {
        let used = if propagates { "tracecontext" } else { "none" };
        variables.warn(NAME, format!("only tracecontext, baggage and none are known; {used} is used"));
    }
    propagates
}

#[cfg(test)]
mod tests;

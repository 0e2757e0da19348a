//! The standard `OTEL_*` variables: whether spans are recorded, which, and where they go.

mod export;
mod variables;

use std::{ffi::OsString, fmt};

use super::fault::ConfigError;
use crate::telemetry::Sampling;
use variables::Variables;

pub(crate) use export::{Export, Wire};

/// Which spans are recorded and where they go. The default records nothing and hands contexts on.
#[derive(Clone)]
pub struct TraceConfig {
    pub(crate) export: Option<Export>,
    pub(crate) sampling: Sampling,
    /// Whether contexts are read and handed on.
    pub(crate) propagates: bool,
    pub(crate) service_name: Option<String>,
    pub(crate) resource: Vec<(String, String)>,
    /// Propagators that do not exist here.
    pub(crate) ignored: Vec<String>,
}

/// For `--help`.
pub(super) const HELP: &str = "Traces go to an OpenTelemetry collector, by OTLP over HTTP. The standard variables say how: \
OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER (otlp or none), OTEL_EXPORTER_OTLP_ENDPOINT (default http://localhost:4318), \
_PROTOCOL (http/protobuf or http/json), _HEADERS, _COMPRESSION (gzip), _TIMEOUT, _CERTIFICATE, _CLIENT_KEY, \
_CLIENT_CERTIFICATE, each also as OTEL_EXPORTER_OTLP_TRACES_*; OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG, \
OTEL_PROPAGATORS (tracecontext; baggage is accepted, and not handed on; none), OTEL_SERVICE_NAME, \
OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_*.";

impl TraceConfig {
    /// What these variables say, by the OpenTelemetry specification; without any, spans go to `http://localhost:4318`.
    ///
    /// `baggage` among the propagators is accepted since it is so by default, but nothing here reads baggage, and it is
    /// not handed on.
    ///
    /// # Errors
    /// When a variable has a value that it cannot have, or one that is not supported.
    pub fn of(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let variables = Variables::of(environment)?;
        let (propagates, ignored) = propagators(&variables);
        let off = Self { propagates, ignored, ..Self::default() };
        if variables.get("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return Ok(off);
        }
        match variables.get("OTEL_TRACES_EXPORTER").unwrap_or("otlp") {
            "otlp" => {}
            "none" => return Ok(off),
            _ => return Err(ConfigError::of("OTEL_TRACES_EXPORTER", "must be otlp or none")),
        }
        Ok(Self {
            export: Some(Export::of(&variables)?),
            sampling: sampling(&variables)?,
            service_name: variables.get("OTEL_SERVICE_NAME").map(str::to_owned),
            resource: variables.pairs("OTEL_RESOURCE_ATTRIBUTES")?,
            ..off
        })
    }
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self {
            export: None,
            sampling: Sampling::default(),
            propagates: true,
            service_name: None,
            resource: Vec::new(),
            ignored: Vec::new(),
        }
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

fn sampling(variables: &Variables) -> Result<Sampling, ConfigError> {
    const ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
    let ratio = || {
        let share = variables.get(ARG).map_or(Ok(1.0), str::parse::<f64>);
        let share = share.ok().filter(|share| (0.0..=1.0).contains(share));
        share.map(Sampling::ratio).ok_or_else(|| ConfigError::of(ARG, "must be a number from 0 to 1, such as 0.25"))
    };
    Ok(match variables.get("OTEL_TRACES_SAMPLER").unwrap_or("parentbased_always_on") {
        "always_on" => Sampling::ALWAYS_ON,
        "always_off" => Sampling::ALWAYS_OFF,
        "traceidratio" => ratio()?,
        "parentbased_always_on" => Sampling::ALWAYS_ON.parent_based(),
        "parentbased_always_off" => Sampling::ALWAYS_OFF.parent_based(),
        "parentbased_traceidratio" => ratio()?.parent_based(),
        _ => {
            return Err(ConfigError::of(
                "OTEL_TRACES_SAMPLER",
                "must be always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or \
                 parentbased_traceidratio",
            ));
        }
    })
}

/// Whether contexts are handed on, and the propagators that are not known.
fn propagators(variables: &Variables) -> (bool, Vec<String>) {
    let named = variables.get("OTEL_PROPAGATORS").unwrap_or("tracecontext,baggage");
    let named = named.split(',').map(str::trim).filter(|name| !name.is_empty());
    let (known, unknown): (Vec<_>, Vec<_>) = named.partition(|name| ["tracecontext", "baggage", "none"].contains(name));
    let propagates = known.contains(&"tracecontext") && !known.contains(&"none");
    (propagates, unknown.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests;

//! The `OTEL_*` variables of an environment; one that is empty counts as not set, as the specification has it.

use std::{collections::BTreeMap, ffi::OsString, fmt::Display, ops::RangeInclusive, str::FromStr};

use percent_encoding::percent_decode_str;

use super::super::fault::ConfigError;

pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    pub(super) fn of(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let mut variables = BTreeMap::new();
        for (name, value) in environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with("OTEL_")).map(str::to_owned) else {
                continue;
            };
            let value = value.into_string().map_err(|_| ConfigError::of(&name, "must be UTF-8"))?;
            variables.insert(name, value.trim().to_owned());
        }
        variables.retain(|_, value| !value.is_empty());
        Ok(Self(variables))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The name and the value of the variable for traces, or of the one for all signals.
    pub(super) fn otlp(&self, name: &str) -> Option<(String, &str)> {
        let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")];
        names.into_iter().find_map(|name| self.get(&name).map(|value| (name.clone(), value)))
    }

    /// A whole number, of the variable `name` if there is one.
    pub(super) fn number<T: FromStr + PartialOrd + Display>(
        name: &str,
        value: Option<&str>,
        default: T,
        range: RangeInclusive<T>,
    ) -> Result<T, ConfigError> {
        let Some(value) = value else { return Ok(default) };
        value.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            ConfigError::of(name, format!("must be a whole number from {} to {}", range.start(), range.end()))
        })
    }

    /// `key=value` pairs, separated by commas and percent-encoded.
    pub(super) fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, ConfigError> {
        self.get(name).map_or(Ok(Vec::new()), |text| pairs(name, text))
    }
}

pub(super) fn pairs(name: &str, text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').filter(|(key, _)| !key.trim().is_empty())?;
        let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(|text| text.into_owned());
        Some((decoded(key)?, decoded(value)?))
    };
    let pairs = text.split(',').filter(|text| !text.trim().is_empty()).map(pair).collect::<Option<_>>();
    pairs.ok_or_else(|| ConfigError::of(name, "must be key=value, or several separated by commas, percent-encoded"))
}

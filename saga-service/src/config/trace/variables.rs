//! The `OTEL_*` variables of an environment; one that is empty counts as not set, as the specification has it.

use std::{
    cell::RefCell, collections::BTreeMap, ffi::OsString, fmt::Display, ops::RangeInclusive, path::Path, str::FromStr,
};

use percent_encoding::percent_decode_str;

use super::super::{fault::ConfigError, kafka::secret};

/// What is set, and what of it is not used.
///
/// By the specification, telemetry that is set up wrongly must not end the program that it is about: a value that is not
/// known, or cannot be read, is warned of and counts as not set.
pub(super) struct Variables {
    set: BTreeMap<String, String>,
    warnings: RefCell<Vec<String>>,
}

impl Variables {
    pub(super) fn of(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let variables = Self { set: BTreeMap::new(), warnings: RefCell::default() };
        let mut set = BTreeMap::new();
        for (name, value) in environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with("OTEL_")).map(str::to_owned) else {
                continue;
            };
            match value.to_str().map(str::trim) {
                Some("") => {}
                Some(value) => drop(set.insert(name, value.to_owned())),
                None => variables.warn(&name, "must be UTF-8; it is ignored"),
            }
        }
        Self { set, ..variables }
    }

    /// For the log, by the name of the variable; never with its value, which may be a secret at the wrong place.
    pub(super) fn warn(&self, name: &str, message: impl Display) {
        self.warnings.borrow_mut().push(format!("{name}: {message}"));
    }

    pub(super) fn into_warnings(self) -> Vec<String> {
        self.warnings.into_inner()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.set.get(name).map(String::as_str)
    }

    /// The name and the value of the variable for traces, or of the one for all signals.
    pub(super) fn otlp(&self, name: &str) -> Option<(String, &str)> {
        otlp_names(name).into_iter().find_map(|name| self.get(&name).map(|value| (name.clone(), value)))
    }

    /// The name of the variable with `_FILE` of a secret, and what that file holds. None when neither is set; then the
    /// variable itself may be.
    pub(super) fn otlp_secret_file(&self, name: &str) -> Result<Option<(String, String)>, ConfigError> {
        let Some((by_file, path)) = self.otlp(&format!("{name}_FILE")) else { return Ok(None) };
        if let Some((name, _)) = self.otlp(name) {
            return Err(ConfigError::of(&by_file, format!("{name} is set too; set one of them")));
        }
        let value = secret(&by_file, Path::new(path))?;
        Ok(Some((by_file, value)))
    }

    /// What the first of these variables says that says something known; the first of `known` when none does.
    pub(super) fn choice<T: Copy>(&self, names: &[&str], known: &[(&'static str, T)]) -> T {
        let mut unknown = Vec::new();
        let chosen = names.iter().find_map(|name| {
            let text = self.get(name)?.to_ascii_lowercase();
            let chosen = known.iter().find(|(known, _)| *known == text);
            if chosen.is_none() {
                unknown.push(name);
            }
            chosen
        });
        let (used, chosen) = chosen.unwrap_or(&known[0]);
        let known = known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        for name in unknown {
            self.warn(name, format!("must be one of {known}; {used} is used instead"));
        }
        *chosen
    }

    /// As [`Variables::choice`], of the variable for traces and of the one for all signals.
    pub(super) fn otlp_choice<T: Copy>(&self, name: &str, known: &[(&'static str, T)]) -> T {
        self.choice(&otlp_names(name).each_ref().map(String::as_str), known)
    }

    /// A whole number, of the first of these variables that has one.
    pub(super) fn number<T: FromStr + PartialOrd + Display>(
        &self,
        names: &[&str],
        default: T,
        range: RangeInclusive<T>,
    ) -> T {
        let mut wrong = Vec::new();
        let number = names.iter().find_map(|name| {
            let number = self.get(name)?.parse().ok().filter(|number| range.contains(number));
            if number.is_none() {
                wrong.push(name);
            }
            number
        });
        let number = number.unwrap_or(default);
        for name in wrong {
            let (least, most) = (range.start(), range.end());
            self.warn(name, format!("must be a whole number from {least} to {most}; {number} is used instead"));
        }
        number
    }

    /// As [`Variables::number`], of the variable for traces and of the one for all signals.
    pub(super) fn otlp_number<T: FromStr + PartialOrd + Display>(
        &self,
        name: &str,
        default: T,
        range: RangeInclusive<T>,
    ) -> T {
        self.number(&otlp_names(name).each_ref().map(String::as_str), default, range)
    }
}

/// The variable for traces, and the one for all signals.
pub(super) fn otlp_names(name: &str) -> [String; 2] {
    [format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")]
}

/// `key=value` pairs, separated by commas and percent-encoded; none for each that is no pair.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = Option<(String, String)>> {
    text.split(',').filter(|text| !text.trim().is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').filter(|(key, _)| !key.trim().is_empty())?;
        let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(|text| text.into_owned());
        Some((decoded(key)?, decoded(value)?))
    })
}

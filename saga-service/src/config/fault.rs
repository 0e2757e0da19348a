//! Results of parsing settings, other than settings.

use clap::{
    Command,
    builder::Arg,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// A wrong setting: one line that names the variable and what to do. It does not quote the value, which may be a
/// secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// An error of this variable.
    pub fn of(variable: &str, message: impl std::fmt::Display) -> Self {
        Self::line(&format!("{variable}: {message}"))
    }

    pub(crate) fn line(text: &str) -> Self {
        Self(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
    }
}

/// Why there are no settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// `--help` or `--version`: the text that was asked for.
    Asked(String),
    /// They are wrong.
    Wrong(ConfigError),
}

impl From<ConfigError> for Stop {
    fn from(error: ConfigError) -> Self {
        Self::Wrong(error)
    }
}

impl Stop {
    /// clap's message in one line.
    pub(super) fn of(error: &clap::Error, command: &Command) -> Self {
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return Self::Asked(error.render().to_string());
        }
        let named = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(name)) => Some(name.clone()),
            Some(ContextValue::Strings(names)) => Some(names.join(", ")),
            _ => None,
        };
        let Some(named) = named else {
            return Self::Wrong(ConfigError::line(&format!("the command line: {}; see --help", kind(error.kind()))));
        };
        let arg = command.get_arguments().find(|arg| arg.to_string() == named);
        let message = match error.kind() {
            ErrorKind::UnknownArgument => {
                // Anything that is no flag, or that follows `=`, may be a secret.
                let flag = named.split('=').next().filter(|flag| flag.starts_with("--"));
                let flag =
                    flag.map_or_else(|| "only flags are taken".to_owned(), |flag| format!("there is no flag {flag}"));
                return Self::Wrong(ConfigError::line(&format!("{flag}; see --help")));
            }
            ErrorKind::InvalidValue => match arg.map(possible).filter(|values| !values.is_empty()) {
                Some(values) => format!("must be one of {}", values.join(", ")),
                None => "needs a value".to_owned(),
            },
            ErrorKind::ValueValidation => {
                std::error::Error::source(error).map_or_else(|| "has a wrong value".to_owned(), ToString::to_string)
            }
            other => kind(other).to_owned(),
        };
        Self::Wrong(ConfigError::of(&arg.and_then(variable).unwrap_or(named), message))
    }
}

fn kind(kind: ErrorKind) -> &'static str {
    kind.as_str().unwrap_or("cannot be read")
}

fn variable(arg: &Arg) -> Option<String> {
    arg.get_env().map(|name| name.to_string_lossy().into_owned())
}

fn possible(arg: &Arg) -> Vec<String> {
    arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
}

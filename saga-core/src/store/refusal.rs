//! A database's refusal of a handler's data, and which refusals have the same cause.

use std::fmt;

/// Why the database refused an event's data. Two refusals of one kind have the same cause, although their messages may
/// quote different values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    kind: Option<String>,
    message: String,
}

impl Refusal {
    /// `kind` names the cause without any value of the row: the SQLSTATE and the constraint, for example.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: Some(kind.into()), message: message.into() }
    }

    /// The kind, which refusals of the same cause share; the message when no kind is known.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or(&self.message)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self { kind: None, message }
    }
}

impl From<&str> for Refusal {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

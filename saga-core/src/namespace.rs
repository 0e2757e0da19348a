//! Namespaces: several flows share a broker and a database, and stay apart.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use crate::record::OutRecord;

/// A prefix of the names of topics, consumer groups, dead-letter topics and schemas. The default is none: names stay as
/// they are.
///
/// ```
/// use saga_core::Namespace;
///
/// let travel: Namespace = "travel".parse()?;
/// assert_eq!(travel.of("payment.events"), "travel.payment.events");
/// assert_eq!(travel.schema("payment"), "travel_payment");
/// assert_eq!(Namespace::default().of("payment.events"), "payment.events");
/// # Ok::<(), saga_core::NamespaceError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Namespace(Option<Arc<str>>);

/// The text is not a valid namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a namespace is 1 to 32 lower-case letters, digits and dashes, and begins with a letter")]
pub struct NamespaceError;

impl FromStr for Namespace {
    type Err = NamespaceError;

    /// An empty text is the default: no namespace.
    fn from_str(text: &str) -> Result<Self, NamespaceError> {
        let is_name = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        match text {
            "" => Ok(Self::default()),
            // Kafka and PostgreSQL limit the length of names that contain the namespace.
            _ if is_name && text.len() <= 32 && text.as_bytes()[0].is_ascii_lowercase() => Ok(Self(Some(text.into()))),
            _ => Err(NamespaceError),
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or_default())
    }
}

impl Namespace {
    /// The name of a topic or a group in this namespace.
    pub fn of<'a>(&self, name: &'a str) -> Cow<'a, str> {
        match &self.0 {
            None => Cow::Borrowed(name),
            Some(namespace) => Cow::Owned(format!("{namespace}.{name}")),
        }
    }

    /// The name of a topic or a group without this namespace; none when it belongs to another namespace.
    pub fn strip<'a>(&self, name: &'a str) -> Option<&'a str> {
        match &self.0 {
            None => Some(name),
            Some(namespace) => name.strip_prefix(&**namespace)?.strip_prefix('.'),
        }
    }

    /// The name of a database schema in this namespace.
    pub fn schema(&self, name: &str) -> String {
        match &self.0 {
            None => name.to_owned(),
            Some(namespace) => format!("{namespace}_{name}"),
        }
    }

    /// The record, addressed to the topic in this namespace.
    #[must_use]
    pub fn place(&self, record: OutRecord) -> OutRecord {
        match &self.0 {
            None => record,
            Some(_) => OutRecord { topic: Cow::Owned(self.of(&record.topic).into_owned()), ..record },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_prefixed_to_names_and_stripped_again() {
        let travel: Namespace = "travel".parse().unwrap();
        assert_eq!(travel.strip(&travel.of("payment.dlq")), Some("payment.dlq"));
        assert_eq!((travel.strip("payment.dlq"), travel.strip("travels.payment.dlq")), (None, None));
        let none: Namespace = "".parse().unwrap();
        assert_eq!(
            (none.of("a"), none.strip("travel.a"), none.schema("a")),
            ("a".into(), Some("travel.a"), "a".into())
        );
    }

    #[test]
    fn text_that_cannot_be_part_of_a_topic_or_schema_name_is_refused() {
        for bad in ["Travel", "travel.eu", "1st", "-x", "a_b", "a b", &"a".repeat(33)] {
            assert_eq!(bad.parse::<Namespace>(), Err(NamespaceError), "{bad}");
        }
    }
}

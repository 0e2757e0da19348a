//! Records as a transport carries them: bytes that have not been validated.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::saga_id::SagaId;

/// One partition of a topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A header. Kafka allows any bytes in it, and names may repeat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The name's bytes; UTF-8 in a well-formed record.
    pub name: Cow<'static, [u8]>,
    /// The value's bytes; Kafka allows none.
    pub value: Option<Vec<u8>>,
}

impl Header {
    /// A header with a text value.
    pub fn text(name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        let name = match name.into() {
            Cow::Borrowed(name) => Cow::Borrowed(name.as_bytes()),
            Cow::Owned(name) => Cow::Owned(name.into_bytes()),
        };
        Self { name, value: Some(value.into().into_bytes()) }
    }

    /// Whether the header has this name.
    pub fn is(&self, name: &str) -> bool {
        *self.name == *name.as_bytes()
    }
}

/// A record as consumed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The topic it was read from.
    pub topic: Arc<str>,
    /// The partition it was read from.
    pub partition: i32,
    /// Its position in the partition.
    pub offset: i64,
    /// The record's key; the saga id in a well-formed record.
    pub key: Option<Vec<u8>>,
    /// The record's value; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// All headers, in order.
    pub headers: Vec<Header>,
}

impl Record {
    /// The partition it was read from.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }

    /// The saga id in its key; none when the key is missing or is not a UUID.
    pub fn saga_id(&self) -> Option<SagaId> {
        std::str::from_utf8(self.key.as_deref()?).ok()?.parse().ok()
    }

    /// The size of its value and headers in bytes: an estimate of its memory.
    pub(crate) fn size(&self) -> usize {
        let headers = self.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Vec::len));
        self.value.as_ref().map_or(0, Vec::len) + headers.sum::<usize>()
    }
}

/// A record to be published. Its partition follows from its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutRecord {
    /// The topic.
    pub topic: Cow<'static, str>,
    /// The key, which decides the partition.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Vec<Header>,
}

/// Headers as JSON text, for a table: a list of `[name, value]`, in order. Bytes that are not UTF-8 become `{"hex":
/// ".."}`.
pub fn headers_to_json(headers: &[Header]) -> String {
    let list: Vec<(Text, Option<Text>)> =
        headers.iter().map(|h| (Text::of(&h.name), h.value.as_deref().map(Text::of))).collect();
    serde_json::to_string(&list).unwrap_or_else(|_| "[]".into())
}

/// Reads what [`headers_to_json`] wrote.
///
/// # Errors
/// When the text was not written by [`headers_to_json`].
pub fn headers_from_json(json: &str) -> Result<Vec<Header>, serde_json::Error> {
    let list: Vec<(Text, Option<Text>)> = serde_json::from_str(json)?;
    Ok(list
        .into_iter()
        .map(|(name, value)| Header { name: Cow::Owned(name.into_bytes()), value: value.map(Text::into_bytes) })
        .collect())
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Hex { hex: String },
}

impl Text {
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Plain(text.to_owned()),
            Err(_) => Self::Hex { hex: bytes.iter().map(|b| format!("{b:02x}")).collect() },
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Plain(text) => text.into_bytes(),
            Self::Hex { hex } => hex
                .as_bytes()
                .chunks(2)
                .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_a_table_byte_for_byte() {
        let headers = vec![
            Header::text("ce_type", "order.created"),
            Header { name: Cow::Owned(vec![0xff, 0xfe]), value: Some(vec![0, 159]) },
            Header { name: Cow::Borrowed(b"empty"), value: None },
        ];
        assert_eq!(headers_from_json(&headers_to_json(&headers)).unwrap(), headers);
    }
}

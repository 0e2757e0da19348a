//! The reason why an order was not confirmed, which refusals and compensations carry.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why an order was not confirmed.
///
/// A word that this version does not know is kept and passed on. A newer participant may refuse for a new reason, and
/// compensation must pass through services that do not know it yet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// Inventory does not have every item.
    OutOfStock,
    /// The gateway refused the charge.
    PaymentDeclined,
    /// The gateway was unreachable in every attempt.
    PaymentUnavailable,
    /// Shipping does not deliver to the address.
    Unshippable,
    /// The customer cancelled it.
    CancelledByCustomer,
    /// The order was not confirmed in time.
    Deadline,
    /// A reason of a newer participant: lower-case letters, digits and underscores, at most 64 of them.
    Other(Box<str>),
}

/// The longest reason, in bytes: it is stored in a column and used as a metric label.
const MAX_WORD: usize = 64;

/// The text is not a reason. A reason has 1 to 64 lower-case letters, digits and underscores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownReason;

impl fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a reason is one to 64 lower-case letters, digits and underscores")
    }
}

impl std::error::Error for UnknownReason {}

impl Reason {
    /// The word as events and HTTP answers spell it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::OutOfStock => "out_of_stock",
            Self::PaymentDeclined => "payment_declined",
            Self::PaymentUnavailable => "payment_unavailable",
            Self::Unshippable => "unshippable",
            Self::CancelledByCustomer => "cancelled_by_customer",
            Self::Deadline => "deadline",
            Self::Other(word) => word,
        }
    }
}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        Ok(match text {
            "out_of_stock" => Self::OutOfStock,
            "payment_declined" => Self::PaymentDeclined,
            "payment_unavailable" => Self::PaymentUnavailable,
            "unshippable" => Self::Unshippable,
            "cancelled_by_customer" => Self::CancelledByCustomer,
            "deadline" => Self::Deadline,
            other if (1..=MAX_WORD).contains(&other.len()) && other.bytes().all(is_word) => Self::Other(other.into()),
            _ => return Err(UnknownReason),
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'_, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Reason {
    fn schema_name() -> Cow<'static, str> {
        "Reason".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Why the order did not go through. A consumer passes on a word that it does not know.",
            "type": "string",
            "pattern": "^[a-z0-9_]{1,64}$",
            "examples": [
                "out_of_stock",
                "payment_declined",
                "payment_unavailable",
                "unshippable",
                "cancelled_by_customer",
                "deadline",
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_word_survives_a_round_trip() {
        for word in [
            "out_of_stock",
            "payment_declined",
            "payment_unavailable",
            "unshippable",
            "cancelled_by_customer",
            "deadline",
        ] {
            let reason: Reason = word.parse().unwrap();
            assert!(!matches!(reason, Reason::Other(_)), "{word}");
            assert_eq!(reason.as_str(), word);
        }
    }

    #[test]
    fn a_newer_word_is_kept_and_passed_on() {
        let reason: Reason = serde_json::from_str(r#""customs_refused""#).unwrap();
        assert_eq!(serde_json::to_string(&reason).unwrap(), r#""customs_refused""#);
    }

    #[test]
    fn invalid_text_is_not_a_reason() {
        for text in ["", "Out of stock", "a\u{0}b", &"x".repeat(65)] {
            assert_eq!(text.parse::<Reason>(), Err(UnknownReason));
        }
    }
}

//! The rules of an order: the transitions of its status, the validation of a request, and the format of its history.

use std::str::FromStr;

use jiff::Timestamp;
use order_flow_events::{Address, Item, OrderCreated, total_of};
use saga_core::Event;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The status of an order. It leaves `pending` once, and never returns to it:
///
/// | status | parcel scheduled | everything compensated | cancellation requested, deadline |
/// |---|---|---|---|
/// | pending | confirmed | cancelled | cancelling |
/// | cancelling | stays: compensation is running | cancelled | stays |
/// | confirmed, cancelled | stays | stays | stays |
///
/// The statements in `store.rs` implement this table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Pending,
    Confirmed,
    Cancelling,
    Cancelled,
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pending" => Ok(Self::Pending),
            "confirmed" => Ok(Self::Confirmed),
            "cancelling" => Ok(Self::Cancelling),
            "cancelled" => Ok(Self::Cancelled),
            other => Err(format!("{other} is not a status")),
        }
    }
}

/// A customer's request: the body of `POST /orders`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OrderRequest {
    customer_id: Uuid,
    items: Vec<Item>,
    currency: String,
    payment_method: String,
    shipping_address: Address,
}

/// The namespace of request fingerprints.
const FINGERPRINTS: Uuid = Uuid::from_u128(0x6f1d_2a0c_93b4_5e5f_8d0e_4b7a_c1f2_9e37);

impl OrderRequest {
    /// Equal for two requests exactly when they order the same, whatever their white space, order of fields and unknown
    /// fields.
    pub(crate) fn fingerprint(&self) -> Result<Uuid, serde_json::Error> {
        Ok(Uuid::new_v5(&FINGERPRINTS, &serde_json::to_vec(self)?))
    }

    /// The order that the request describes, or a message that says what is wrong with it.
    pub(crate) fn order(self, order_id: Uuid) -> Result<OrderCreated, String> {
        let Self { customer_id, items, currency, payment_method, shipping_address } = self;
        // An overflowing total has no value here; the rules report it.
        let total_cents = total_of(&items).unwrap_or(-1);
        let order =
            OrderCreated { order_id, customer_id, items, total_cents, currency, payment_method, shipping_address };
        order.validate()?;
        Ok(order)
    }
}

/// Whether a text can be an `Idempotency-Key`: 1 to 255 printable ASCII characters.
pub(crate) fn is_idempotency_key(key: &[u8]) -> bool {
    (1..=255).contains(&key.len()) && key.iter().all(|b| (b' '..=b'~').contains(b))
}

/// An entry of an order's history.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Entry {
    event: String,
    at: String,
}

#[cfg(test)]
impl Entry {
    pub(crate) fn event(&self) -> &str {
        &self.event
    }
}

/// The entry for an observed or published event.
pub(crate) fn entry<E: Event>(at: Timestamp) -> String {
    format!("{} {at}\n", E::NAME)
}

/// Parses a history.
pub(crate) fn entries(history: &str) -> Vec<Entry> {
    let entry = |(event, at): (&str, &str)| Entry { event: event.to_owned(), at: at.to_owned() };
    history.lines().filter_map(|line| line.split_once(' ')).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use order_flow_events::{OrderConfirmed, ShippingScheduled};
    use serde_json::{Value, json};

    use super::*;

    fn request() -> Value {
        json!({
            "customer_id": "7b0c5f6e-43b5-4a3c-9f0f-3f2f7e1c9a10",
            "items": [{"sku": "SKU-1", "quantity": 2, "unit_price_cents": 1999}],
            "currency": "EUR",
            "payment_method": "tok_visa",
            "shipping_address": {
                "name": "Ada", "street": "Main Street 1", "city": "Berlin", "postal_code": "10115", "country": "DE",
            },
        })
    }

    fn read(value: Value) -> OrderRequest {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_order_has_the_sum_of_its_items() {
        let order = read(request()).order(Uuid::from_u128(1)).unwrap();
        assert_eq!(order.total_cents, 3998);
    }

    #[test]
    fn a_request_is_checked_by_the_rules_of_the_event() {
        let mut value = request();
        value["items"] = json!([]);
        assert!(read(value).order(Uuid::from_u128(1)).unwrap_err().contains("items"));
        let mut value = request();
        let dear =
            |n| json!({"sku": format!("SKU-{n}"), "quantity": 1_000_000, "unit_price_cents": 1_000_000_000_000_i64});
        value["items"] = (0..10).map(dear).collect();
        assert!(read(value).order(Uuid::from_u128(1)).unwrap_err().contains("too large"));
    }

    #[test]
    fn the_fingerprint_distinguishes_requests_by_their_content() {
        let fingerprint = |value| read(value).fingerprint().unwrap();
        let mut with_a_note = request();
        with_a_note["note"] = json!("ring twice");
        assert_eq!(fingerprint(request()), fingerprint(with_a_note));
        let mut dearer = request();
        dearer["items"][0]["unit_price_cents"] = json!(2000);
        assert_ne!(fingerprint(request()), fingerprint(dearer));
    }

    #[test]
    fn an_idempotency_key_is_short_printable_ascii() {
        for key in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", &"x".repeat(255)] {
            assert!(is_idempotency_key(key.as_bytes()), "{key}");
        }
        for key in ["", "a\tb", "schlüssel", &"x".repeat(256)] {
            assert!(!is_idempotency_key(key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn a_history_is_read_back_as_it_was_written() {
        let at: Timestamp = "2030-01-02T03:04:05.678Z".parse().unwrap();
        let history = entry::<ShippingScheduled>(at) + &entry::<OrderConfirmed>(at);
        let line = |event: &str| Entry { event: event.to_owned(), at: at.to_string() };
        assert_eq!(entries(&history), [line("shipping.scheduled"), line("order.confirmed")]);
    }
}

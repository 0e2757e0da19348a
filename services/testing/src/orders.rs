//! Valid orders, which a test changes where it needs another value.

use order_flow_events::{Address, Item, OrderCreated, total_of};
use uuid::Uuid;

/// An order of these items, paid by `tok_visa`, to Berlin.
///
/// # Panics
/// When the total does not fit.
pub fn order(order_id: Uuid, items: impl IntoIterator<Item = Item>) -> OrderCreated {
    let items: Vec<Item> = items.into_iter().collect();
    OrderCreated {
        order_id,
        customer_id: Uuid::from_u128(0xADA),
        total_cents: total_of(&items).unwrap(),
        items,
        currency: "EUR".to_owned(),
        payment_method: "tok_visa".to_owned(),
        shipping_address: address("DE"),
    }
}

/// This many units of one SKU, for 10.00 each.
pub fn item(sku: &str, quantity: i64) -> Item {
    Item { sku: sku.to_owned(), quantity, unit_price_cents: 1000 }
}

/// An address in this country.
pub fn address(country: &str) -> Address {
    Address {
        name: "Ada".to_owned(),
        street: "Main Street 1".to_owned(),
        city: "Berlin".to_owned(),
        postal_code: "10115".to_owned(),
        country: country.to_owned(),
    }
}

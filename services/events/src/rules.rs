//! The rules of a valid order: the same for a request over HTTP and for an event from any producer.

use std::collections::HashSet;

use crate::order::{Address, Item, OrderCreated};

const MAX_ITEMS: usize = 100;
const MAX_SKU_CHARS: usize = 64;
const MAX_QUANTITY: i64 = 1_000_000;
const MAX_UNIT_PRICE_CENTS: i64 = 1_000_000_000_000;

/// The sum of the items in minor units; none when it overflows.
pub fn total_of(items: &[Item]) -> Option<i64> {
    items.iter().try_fold(0_i64, |total, item| total.checked_add(item.quantity.checked_mul(item.unit_price_cents)?))
}

/// Checks a SKU.
///
/// # Errors
/// A message that says what is wrong with it.
pub fn check_sku(sku: &str) -> Result<(), String> {
    if sku.is_empty() || sku.chars().count() > MAX_SKU_CHARS {
        return Err(format!("a sku has 1 to {MAX_SKU_CHARS} characters"));
    }
    if sku.chars().any(char::is_control) {
        return Err("a sku has no control characters".to_owned());
    }
    Ok(())
}

pub(crate) fn check_amount(amount_cents: i64) -> Result<(), String> {
    if amount_cents < 0 { Err("an amount is not negative".to_owned()) } else { Ok(()) }
}

/// Every rule of `order.created`. The messages name the field and never quote the data, which belongs to the customer.
pub(crate) fn check_order(order: &OrderCreated) -> Result<(), String> {
    if !(1..=MAX_ITEMS).contains(&order.items.len()) {
        return Err(format!("an order has 1 to {MAX_ITEMS} items"));
    }
    order.items.iter().try_for_each(check_item)?;
    let distinct: HashSet<_> = order.items.iter().map(|item| &item.sku).collect();
    if distinct.len() != order.items.len() {
        return Err("items: each sku appears once".to_owned());
    }
    match total_of(&order.items) {
        None => return Err("items: the total is too large".to_owned()),
        Some(total) if total != order.total_cents => {
            return Err("total_cents: is not the sum of the items".to_owned());
        }
        Some(_) => {}
    }
    if !is_code(&order.currency, 3) {
        return Err("currency: three capital letters".to_owned());
    }
    check_payment_method(&order.payment_method)?;
    check_address(&order.shipping_address)
}

/// Requires a payment token, so that nothing is reserved for an order that cannot be charged. The gateway decides
/// whether it is valid.
fn check_payment_method(token: &str) -> Result<(), String> {
    if token.is_empty() {
        return Err("payment_method: at least one character".to_owned());
    }
    check_text("payment_method", token)
}

fn check_item(item: &Item) -> Result<(), String> {
    check_sku(&item.sku).map_err(|e| format!("items: {e}"))?;
    if !(1..=MAX_QUANTITY).contains(&item.quantity) {
        return Err(format!("items: a quantity is 1 to {MAX_QUANTITY}"));
    }
    if !(0..=MAX_UNIT_PRICE_CENTS).contains(&item.unit_price_cents) {
        return Err(format!("items: a unit price is 0 to {MAX_UNIT_PRICE_CENTS} cents"));
    }
    Ok(())
}

fn check_address(address: &Address) -> Result<(), String> {
    let Address { name, street, city, postal_code, country } = address;
    for (field, text) in [("name", name), ("street", street), ("city", city), ("postal_code", postal_code)] {
        check_text(field, text).map_err(|e| format!("shipping_address.{e}"))?;
    }
    if !is_code(country, 2) {
        return Err("shipping_address.country: two capital letters".to_owned());
    }
    Ok(())
}

/// PostgreSQL text cannot contain NUL.
fn check_text(field: &str, text: &str) -> Result<(), String> {
    if text.contains('\0') { Err(format!("{field}: has a NUL character")) } else { Ok(()) }
}

fn is_code(text: &str, letters: usize) -> bool {
    text.len() == letters && text.bytes().all(|b| b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use saga_core::Event;
    use uuid::Uuid;

    use super::*;

    fn item(sku: &str, quantity: i64, unit_price_cents: i64) -> Item {
        Item { sku: sku.to_owned(), quantity, unit_price_cents }
    }

    fn order(items: Vec<Item>) -> OrderCreated {
        OrderCreated {
            order_id: Uuid::from_u128(1),
            customer_id: Uuid::from_u128(2),
            total_cents: total_of(&items).unwrap_or(0),
            items,
            currency: "EUR".to_owned(),
            payment_method: "tok_visa".to_owned(),
            shipping_address: Address {
                name: "Ada".to_owned(),
                street: "Main Street 1".to_owned(),
                city: "Berlin".to_owned(),
                postal_code: "10115".to_owned(),
                country: "DE".to_owned(),
            },
        }
    }

    fn changed(change: impl FnOnce(&mut OrderCreated)) -> Result<(), String> {
        let mut order = order(vec![item("SKU-1", 2, 1999)]);
        change(&mut order);
        order.validate()
    }

    #[test]
    fn an_order_at_every_limit_is_valid() {
        assert_eq!(changed(|_| ()), Ok(()));
        assert_eq!(order((0..100).map(|n| item(&format!("SKU-{n}"), 1, 0)).collect()).validate(), Ok(()));
        assert_eq!(order(vec![item(&"ü".repeat(64), MAX_QUANTITY, MAX_UNIT_PRICE_CENTS)]).validate(), Ok(()));
    }

    #[test]
    fn an_order_has_between_one_and_a_hundred_distinct_items() {
        assert!(order(vec![]).validate().is_err());
        assert!(order((0..101).map(|n| item(&format!("SKU-{n}"), 1, 0)).collect()).validate().is_err());
        assert!(order(vec![item("A", 1, 1), item("A", 1, 1)]).validate().is_err());
    }

    #[test]
    fn a_sku_has_1_to_64_characters_and_no_control_characters() {
        for sku in ["", "a\u{0}", "a\nb", &"x".repeat(65)] {
            assert!(order(vec![item(sku, 1, 1)]).validate().is_err(), "{sku:?}");
        }
    }

    #[test]
    fn quantities_and_prices_stay_in_range() {
        for (quantity, price) in [(0, 1), (-1, 1), (MAX_QUANTITY + 1, 1), (1, -1), (1, MAX_UNIT_PRICE_CENTS + 1)] {
            assert!(order(vec![item("A", quantity, price)]).validate().is_err(), "{quantity} x {price}");
        }
    }

    #[test]
    fn a_total_that_does_not_fit_or_is_not_the_sum_is_refused() {
        let dear = |n: usize| item(&format!("SKU-{n}"), MAX_QUANTITY, MAX_UNIT_PRICE_CENTS);
        let message = order((0..10).map(dear).collect()).validate().unwrap_err();
        assert!(message.contains("too large"), "{message}");
        assert!(changed(|o| o.total_cents += 1).is_err());
    }

    #[test]
    fn currency_and_country_are_capital_letters() {
        for code in ["", "EU", "eur", "EURO", "E1R", "ÄÖ"] {
            assert!(changed(|o| o.currency = code.to_owned()).is_err(), "{code}");
        }
        for code in ["", "D", "de", "DEU", "D1", "Ä"] {
            assert!(changed(|o| o.shipping_address.country = code.to_owned()).is_err(), "{code}");
        }
    }

    #[test]
    fn an_order_without_a_payment_method_is_refused() {
        assert_eq!(changed(|o| o.payment_method.clear()), Err("payment_method: at least one character".to_owned()));
        assert_eq!(changed(|o| o.payment_method = "x".to_owned()), Ok(()));
    }

    #[test]
    fn text_with_nul_is_refused_without_being_quoted() {
        let message = changed(|o| o.shipping_address.name = "Mallory\0".to_owned()).unwrap_err();
        assert!(message.starts_with("shipping_address.name") && !message.contains("Mallory"), "{message}");
        assert!(changed(|o| o.payment_method = "tok\0".to_owned()).is_err());
    }

    #[test]
    fn unknown_fields_of_a_newer_producer_are_ignored() {
        let mut value = serde_json::to_value(order(vec![item("A", 1, 1)])).unwrap();
        value["gift_wrap"] = serde_json::json!(true);
        value["items"][0]["colour"] = serde_json::json!("red");
        assert_eq!(serde_json::from_value::<OrderCreated>(value).unwrap().validate(), Ok(()));
    }
}

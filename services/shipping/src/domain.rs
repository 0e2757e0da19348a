//! The countries that shipping delivers to, and a parcel's tracking number.

use order_flow_events::Address;
use uuid::Uuid;

/// Antarctica: no carrier delivers there.
const UNREACHABLE: &[&str] = &["AQ"];

pub(crate) fn is_shippable(address: &Address) -> bool {
    !UNREACHABLE.contains(&address.country.as_str())
}

/// Derived from the order, so that a step that is repeated after a crash gives the parcel the same number.
pub(crate) fn tracking_number(order_id: Uuid) -> String {
    let parcel = Uuid::new_v5(&order_id, b"parcel");
    let (digits, _) = parcel.as_u64_pair();
    format!("TRK-{digits:016X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(country: &str) -> Address {
        let text = || "x".to_owned();
        Address { name: text(), street: text(), city: text(), postal_code: text(), country: country.to_owned() }
    }

    #[test]
    fn everywhere_but_antarctica() {
        assert!(is_shippable(&address("DE")));
        assert!(!is_shippable(&address("AQ")));
    }

    #[test]
    fn an_order_has_one_tracking_number_and_no_other_order_has_it() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(tracking_number(one), tracking_number(one));
        assert_ne!(tracking_number(one), tracking_number(other));
    }
}

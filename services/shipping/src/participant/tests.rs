//! Shipping on the production runtime: given, when, then.

use order_flow_events::{OrderCancellationRequested, PaymentCharged, Reason, ShippingCancelled};
use order_flow_testing::{address, in_memory};
use saga_core::testing::{Published, Scenario};
use uuid::Uuid;

use super::participant;
use crate::MIGRATIONS;

const ORDER: Uuid = Uuid::from_u128(1);

fn charged(country: &str) -> PaymentCharged {
    PaymentCharged { order_id: ORDER, shipping_address: address(country) }
}

fn cancellation() -> OrderCancellationRequested {
    OrderCancellationRequested { order_id: ORDER, reason: Reason::CancelledByCustomer }
}

fn types(published: &[Published]) -> Vec<(&str, bool)> {
    published.iter().map(|event| (event.event_type.as_str(), event.null_compensation)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_parcel_is_cancelled_with_its_order() {
    let db = in_memory(MIGRATIONS).await;
    let published = Scenario::new(participant(), db).given(&charged("DE")).when(&cancellation()).await;
    assert_eq!(types(&published), [("shipping.cancelled", false)]);
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_before_the_parcel_is_passed_on_and_nothing_is_sent_after_it() {
    let db = in_memory(MIGRATIONS).await;
    let published = Scenario::new(participant(), db.clone()).when(&cancellation()).await;
    assert_eq!(types(&published), [("shipping.cancelled", true)]);
    let event = ShippingCancelled { order_id: ORDER, reason: Reason::CancelledByCustomer };
    assert_eq!(published[0].read(), Some(event));
    assert!(Scenario::new(participant(), db).when(&charged("DE")).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refused_address_has_no_parcel_to_cancel() {
    let db = in_memory(MIGRATIONS).await;
    let published = Scenario::new(participant(), db).given(&charged("AQ")).when(&cancellation()).await;
    assert_eq!(types(&published), [("shipping.cancelled", true)]);
}

//! Shipping's steps on a real database.

use order_flow_events::{OrderCancellationRequested, PaymentCharged, Reason, ShippingCancelled};
use saga_core::Outcome;
use saga_store::{Db, params};
use saga_test_support::order_flow::{address, at, in_step, on_each_database};
use uuid::Uuid;

use super::{cancel, schedule};
use crate::{MIGRATIONS, store::SELECT};

fn charged(order: u128, country: &str) -> PaymentCharged {
    PaymentCharged { order_id: Uuid::from_u128(order), shipping_address: address(country) }
}

async fn shipment(db: &Db, order: u128) -> (String, Option<String>) {
    let row = db.query_opt(SELECT, params![Uuid::from_u128(order)]).await.unwrap().unwrap();
    (row.get("status").unwrap(), row.get("tracking_number").unwrap())
}

#[tokio::test]
async fn a_parcel_is_sent_everywhere_but_to_antarctica() {
    on_each_database(MIGRATIONS, async |db| {
        let outcomes = in_step(&db, at(0), schedule, [charged(1, "DE"), charged(2, "AQ")]).await;
        let [Outcome::Success(sent), Outcome::Refused(refused)] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!(shipment(&db, 1).await, ("scheduled".to_owned(), Some(sent.tracking_number.clone())));
        assert_eq!((refused.order_id, &refused.reason), (Uuid::from_u128(2), &Reason::Unshippable));
        assert_eq!(shipment(&db, 2).await, ("rejected".to_owned(), None));
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_parcel_passes_the_reason_on() {
    on_each_database(MIGRATIONS, async |db| {
        in_step(&db, at(0), schedule, [charged(1, "DE"), charged(2, "DE")]).await;
        let request = OrderCancellationRequested { order_id: Uuid::from_u128(1), reason: Reason::Deadline };
        let cancelled = in_step(&db, at(1), cancel, [request]).await;
        assert_eq!(cancelled, [ShippingCancelled { order_id: Uuid::from_u128(1), reason: Reason::Deadline }]);
        assert_eq!(shipment(&db, 1).await.0, "cancelled");
        assert_eq!(shipment(&db, 2).await.0, "scheduled");
    })
    .await;
}

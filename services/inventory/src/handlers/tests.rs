//! The inventory's steps on a real database.

use order_flow_events::{InventoryReleased, OrderCreated, PaymentDeclined, PaymentRefunded, Reason};
use order_flow_testing::{at, in_set_step, item, on_each_database, order};
use saga_core::Outcome;
use saga_store::{Db, params};
use uuid::Uuid;

use super::{release, reserve};
use crate::{
    MIGRATIONS,
    store::{SELECT_STOCK, SET_AVAILABLE},
};

async fn given_stock(db: &Db, stock: &[(&'static str, i64)]) {
    for (sku, available) in stock {
        db.transaction(async |tx| {
            tx.query(SET_AVAILABLE, params![*sku, *available]).await?;
            Ok::<_, saga_core::store::StoreError>((tx, (), Vec::new()))
        })
        .await
        .unwrap();
    }
}

/// Available, reserved.
async fn stock(db: &Db, sku: &str) -> (i64, i64) {
    let row = db.query_opt(SELECT_STOCK, params![sku]).await.unwrap().unwrap();
    (row.get("available").unwrap(), row.get("reserved").unwrap())
}

/// Whether each order was reserved.
async fn reserved(db: &Db, orders: impl IntoIterator<Item = OrderCreated>) -> Vec<bool> {
    let outcomes = in_set_step(db, at(0), reserve, orders).await;
    outcomes.iter().map(|outcome| matches!(outcome, Outcome::Success(_))).collect()
}

fn declined(order_id: Uuid) -> InventoryReleased {
    PaymentDeclined { order_id, reason: Reason::PaymentDeclined }.into()
}

#[tokio::test]
async fn an_order_is_reserved_as_a_whole() {
    on_each_database(MIGRATIONS, async |db| {
        given_stock(&db, &[("A", 5), ("B", 5)]).await;
        let wanted = order(Uuid::from_u128(1), [item("B", 2), item("A", 5)]);
        let outcomes = in_set_step(&db, at(0), reserve, [wanted.clone()]).await;
        let [Outcome::Success(event)] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!((event.order_id, event.amount_cents), (wanted.order_id, wanted.total_cents));
        assert_eq!((&event.currency, &event.payment_method), (&wanted.currency, &wanted.payment_method));
        assert_eq!(event.shipping_address, wanted.shipping_address);
        assert_eq!((stock(&db, "A").await, stock(&db, "B").await), ((0, 5), (3, 2)));
    })
    .await;
}

#[tokio::test]
async fn a_batch_is_served_in_its_order_and_refused_orders_take_nothing() {
    on_each_database(MIGRATIONS, async |db| {
        given_stock(&db, &[("A", 5), ("B", 9)]).await;
        let orders = [
            order(Uuid::from_u128(9), [item("A", 3)]),
            order(Uuid::from_u128(8), [item("B", 1), item("A", 3)]),
            order(Uuid::from_u128(7), [item("A", 2)]),
            order(Uuid::from_u128(6), [item("B", 9), item("UNKNOWN", 1)]),
            order(Uuid::from_u128(5), [item("B", 9)]),
        ];
        let outcomes = in_set_step(&db, at(0), reserve, orders).await;
        let refused = |outcome: &Outcome<_, _>| matches!(outcome, Outcome::Refused(_));
        assert_eq!(outcomes.iter().map(refused).collect::<Vec<_>>(), [false, true, false, true, false]);
        let Outcome::Refused(refusal) = &outcomes[1] else { panic!("the second is refused") };
        assert_eq!((refusal.order_id, &refusal.reason), (Uuid::from_u128(8), &Reason::OutOfStock));
        assert_eq!((stock(&db, "A").await, stock(&db, "B").await), ((0, 5), (0, 9)));
    })
    .await;
}

#[tokio::test]
async fn a_released_order_gives_everything_back_and_only_once() {
    on_each_database(MIGRATIONS, async |db| {
        given_stock(&db, &[("A", 5), ("B", 5)]).await;
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let orders = [order(one, [item("A", 2), item("B", 1)]), order(two, [item("A", 3)])];
        assert_eq!(reserved(&db, orders).await, [true, true]);

        let released = in_set_step(&db, at(1), release, [declined(one), declined(two)]).await;
        let event = |order_id| InventoryReleased { order_id, reason: Reason::PaymentDeclined };
        assert_eq!(released, [event(one), event(two)]);
        assert_eq!((stock(&db, "A").await, stock(&db, "B").await), ((5, 0), (5, 0)));

        // Whatever the barrier may have missed: what is given back cannot be given back again.
        in_set_step(&db, at(2), release, [declined(one)]).await;
        assert_eq!(stock(&db, "A").await, (5, 0));
    })
    .await;
}

#[tokio::test]
async fn releasing_one_order_leaves_the_others_reserved() {
    on_each_database(MIGRATIONS, async |db| {
        given_stock(&db, &[("A", 5)]).await;
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        reserved(&db, [order(one, [item("A", 2)]), order(two, [item("A", 3)])]).await;
        let refunded = PaymentRefunded { order_id: one, reason: Reason::Unshippable }.into();
        let released = in_set_step(&db, at(1), release, [refunded]).await;
        assert_eq!(released[0].reason, Reason::Unshippable, "the first cause is passed on");
        assert_eq!(stock(&db, "A").await, (2, 3));
    })
    .await;
}

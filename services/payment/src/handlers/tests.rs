//! The payment's steps on a real database.

use order_flow_events::{
    InventoryReserved, PaymentCharged, PaymentDeclined, Reason, ShippingCancelled, ShippingRejected,
};
use order_flow_testing::{address, at, in_step, on_each_database};
use saga_core::{Outcome, StepError, StepResult, handler::Cx};
use saga_store::{Db, params};
use uuid::Uuid;

use super::{charge, refund, refuse};
use crate::{MIGRATIONS, gateway::Answer, store::SELECT};

fn reserved(order: u128) -> InventoryReserved {
    InventoryReserved {
        order_id: Uuid::from_u128(order),
        amount_cents: 1000,
        currency: "EUR".to_owned(),
        payment_method: "tok_visa".to_owned(),
        shipping_address: address("DE"),
    }
}

async fn payment(db: &Db, order: u128) -> Option<(String, i64)> {
    let row = db.query_opt(SELECT, params![Uuid::from_u128(order)]).await.unwrap()?;
    Some((row.get("status").unwrap(), row.get("amount_cents").unwrap()))
}

fn of(status: &str) -> Option<(String, i64)> {
    Some((status.to_owned(), 1000))
}

async fn record(
    cx: &mut Cx<'_, Db>,
    (reserved, answer): (InventoryReserved, Answer),
) -> StepResult<PaymentCharged, PaymentDeclined> {
    charge(cx, reserved, answer).await
}

#[tokio::test]
async fn the_gateways_answer_is_noted_and_told() {
    on_each_database(MIGRATIONS, async |db| {
        let answered = [(reserved(1), Answer::Captured), (reserved(2), Answer::Declined)];
        let outcomes = in_step(&db, at(0), record, answered).await;
        let [Outcome::Success(charged), Outcome::Refused(declined)] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!(charged.shipping_address, address("DE"), "shipping needs it");
        assert_eq!(declined.reason, Reason::PaymentDeclined);
        assert_eq!((payment(&db, 1).await, payment(&db, 2).await), (of("charged"), of("declined")));
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_never_answers_is_a_refusal_of_its_own() {
    on_each_database(MIGRATIONS, async |db| {
        let failure = StepError::transient("no answer");
        let each = async |cx: &mut Cx<'_, Db>, reserved| refuse(cx, reserved, &failure).await;
        let refusals = in_step(&db, at(0), each, [reserved(1)]).await;
        assert_eq!(refusals[0].reason, Reason::PaymentUnavailable);
        assert_eq!(payment(&db, 1).await, of("declined"));
    })
    .await;
}

#[tokio::test]
async fn a_refund_passes_the_reason_on() {
    on_each_database(MIGRATIONS, async |db| {
        let answered = [1, 2, 3].map(|n| (reserved(n), Answer::Captured));
        in_step(&db, at(0), record, answered).await;
        let rejected = ShippingRejected { order_id: Uuid::from_u128(1), reason: Reason::Unshippable };
        let cancelled = ShippingCancelled { order_id: Uuid::from_u128(2), reason: Reason::Deadline };
        let undone = [rejected.into(), cancelled.into()];
        let events = in_step(&db, at(1), refund, undone).await;
        assert_eq!(events.iter().map(|e| &e.reason).collect::<Vec<_>>(), [&Reason::Unshippable, &Reason::Deadline]);
        let payments = (payment(&db, 1).await, payment(&db, 2).await, payment(&db, 3).await);
        assert_eq!(payments, (of("refunded"), of("refunded"), of("charged")));
    })
    .await;
}

#[tokio::test]
async fn a_refund_of_a_charge_that_was_never_noted_notes_nothing() {
    on_each_database(MIGRATIONS, async |db| {
        let cancelled = ShippingCancelled { order_id: Uuid::from_u128(1), reason: Reason::Deadline };
        assert_eq!(in_step(&db, at(0), refund, [cancelled.into()]).await.len(), 1);
        assert_eq!(payment(&db, 1).await, None);
    })
    .await;
}

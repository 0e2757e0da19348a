//! The payment's part in the flow: what it consumes, what it answers, what undoes it.

use std::sync::Arc;

use order_flow_events::{InventoryReserved, PaymentRefunded, ShippingCancelled, ShippingRejected};
use saga_core::{Participant, Step, handler::Call};
use saga_store::Db;

use crate::{
    gateway::{Charge, Gateway, Refund},
    handlers::{charge, refund, refuse},
};

/// `inventory.reserved` takes the money, or refuses; no parcel means it goes back. The gateway is called outside any
/// transaction, with a key that stays the same however often it is called. An attempt that was never answered may have taken
/// the money all the same, so it is voided before the order is refused for want of an answer.
pub fn participant(gateway: Arc<dyn Gateway>) -> Participant<Db> {
    let (to_void, to_refund) = (gateway.clone(), gateway.clone());
    let take = async move |call: &Call, reserved: &InventoryReserved| {
        let charge = Charge {
            key: call.idempotency_key,
            order_id: reserved.order_id,
            amount_cents: reserved.amount_cents,
            currency: reserved.currency.clone(),
            payment_method: reserved.payment_method.clone(),
        };
        Ok(gateway.charge(charge).await?)
    };
    let void = async move |call: &Call, reserved: &InventoryReserved| {
        let void = Refund { key: call.idempotency_key, charge_key: call.action_key, order_id: reserved.order_id };
        Ok(to_void.refund(void).await?)
    };
    let give_back = async move |call: &Call, refunded: &PaymentRefunded| {
        let refund = Refund { key: call.idempotency_key, charge_key: call.action_key, order_id: refunded.order_id };
        Ok(to_refund.refund(refund).await?)
    };
    Participant::named("payment").step(
        Step::with_effect("charge", take, charge)
            .when_exhausted_with_effect(void, refuse)
            .undone_with_effect(give_back, refund)
            .on::<(ShippingRejected, ShippingCancelled)>(),
    )
}

#[cfg(test)]
mod tests;

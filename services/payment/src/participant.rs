//! The payment's part in the flow: its step, its effect and its compensation.

use std::sync::Arc;

use order_flow_events::{InventoryReserved, PaymentRefunded, ShippingCancelled, ShippingRejected};
use saga_core::{Participant, Step, Trigger, handler::Call};
use saga_store::Db;
use uuid::Uuid;

use crate::{
    gateway::{Charge, Gateway, Refund},
    handlers::{charge, refund, refuse},
};

/// `inventory.reserved` charges the customer, or is refused; a rejected or cancelled shipment refunds the charge. The
/// gateway is called outside any transaction, always with the same key. An attempt without an answer may have taken the
/// money, so it is voided before the order is refused.
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
    let give_back = async move |call: &Call, why: &MoneyBack| {
        let refund = Refund { key: call.idempotency_key, charge_key: call.action_key, order_id: *why.order_id() };
        Ok(to_refund.refund(refund).await?)
    };
    Participant::named("payment").step(
        Step::with_effect("charge", take, charge)
            .when_exhausted_with_effect(void, refuse)
            .undone_with_effect(give_back, refund),
    )
}

/// There is no shipment: the charge is refunded.
#[derive(Clone, Debug, Trigger)]
#[trigger(fields(order_id: Uuid), into = PaymentRefunded { order_id, reason })]
pub enum MoneyBack {
    /// Shipping does not deliver to the address.
    Rejected(ShippingRejected),
    /// The order was cancelled.
    Cancelled(ShippingCancelled),
}

#[cfg(test)]
mod tests;

//! Shipping's steps.

use order_flow_events::{
    OrderCancellationRequested, PaymentCharged, Reason, ShippingCancelled, ShippingRejected, ShippingScheduled,
};
use saga_core::{Outcome, StepError, StepResult, handler::Cx};
use saga_store::{Db, Write, params};

use crate::{
    domain::{is_shippable, tracking_number},
    store::{CANCEL, INSERT},
};

/// Schedules the parcel, or refuses the address.
pub(crate) async fn schedule(
    cx: &mut Cx<'_, Db>,
    paid: PaymentCharged,
) -> StepResult<ShippingScheduled, ShippingRejected> {
    let PaymentCharged { order_id, shipping_address } = paid;
    if !is_shippable(&shipping_address) {
        cx.write(INSERT, params![order_id, "rejected", None::<String>])?;
        return Ok(Outcome::Refused(ShippingRejected { order_id, reason: Reason::Unshippable }));
    }
    let tracking_number = tracking_number(order_id);
    cx.write(INSERT, params![order_id, "scheduled", &tracking_number])?;
    Ok(Outcome::Success(ShippingScheduled { order_id, tracking_number }))
}

/// Cancels the parcel.
pub(crate) async fn cancel(
    cx: &mut Cx<'_, Db>,
    request: OrderCancellationRequested,
) -> Result<ShippingCancelled, StepError> {
    cx.write(CANCEL, params![request.order_id])?;
    Ok(request.into())
}

#[cfg(test)]
mod tests;

//! Shipping's steps, each for a whole batch of orders at once.

use order_flow_events::{
    OrderCancellationRequested, PaymentCharged, Reason, ShippingCancelled, ShippingRejected, ShippingScheduled,
};
use saga_core::{Outcome, StepError, handler::Cx};
use saga_store::{Db, Rows, params};

use crate::{
    domain::{is_shippable, tracking_number},
    store::{CANCEL, INSERT},
};

/// Sends the parcel, or refuses the address.
pub(crate) async fn schedule(
    cx: &mut Cx<'_, Db>,
    paid: Vec<PaymentCharged>,
) -> Result<Vec<Outcome<ShippingScheduled, ShippingRejected>>, StepError> {
    let (mut outcomes, mut shipments) = (Vec::with_capacity(paid.len()), Rows::new());
    for PaymentCharged { order_id, shipping_address } in paid {
        if is_shippable(&shipping_address) {
            let tracking_number = tracking_number(order_id);
            shipments.push(params![order_id, "scheduled", &tracking_number]);
            outcomes.push(Outcome::Success(ShippingScheduled { order_id, tracking_number }));
        } else {
            shipments.push(params![order_id, "rejected", None::<String>]);
            outcomes.push(Outcome::Refused(ShippingRejected { order_id, reason: Reason::Unshippable }));
        }
    }
    cx.tx().execute_rows(INSERT, &shipments, params![]).await?;
    Ok(outcomes)
}

/// Stops the parcel.
pub(crate) async fn cancel(
    cx: &mut Cx<'_, Db>,
    requests: Vec<OrderCancellationRequested>,
) -> Result<Vec<ShippingCancelled>, StepError> {
    let orders: Rows = requests.iter().map(|request| params![request.order_id]).collect();
    cx.tx().execute_rows(CANCEL, &orders, params![]).await?;
    Ok(requests.into_iter().map(Into::into).collect())
}

#[cfg(test)]
mod tests;

//! The payment's steps: what the gateway answered is written down.

use order_flow_events::{InventoryReserved, PaymentCharged, PaymentDeclined, PaymentRefunded, Reason};
use saga_core::{Outcome, StepError, StepResult, handler::Cx};
use saga_store::{Db, Write, params};

use crate::{
    gateway::Answer,
    store::{INSERT, REFUND},
};

/// Notes what the gateway decided.
pub(crate) async fn charge(
    cx: &mut Cx<'_, Db>,
    reserved: InventoryReserved,
    answer: Answer,
) -> StepResult<PaymentCharged, PaymentDeclined> {
    let InventoryReserved { order_id, amount_cents, shipping_address, .. } = reserved;
    match answer {
        Answer::Captured => {
            cx.write(INSERT, params![order_id, "charged", amount_cents])?;
            Ok(Outcome::Success(PaymentCharged { order_id, shipping_address }))
        }
        Answer::Declined => {
            cx.write(INSERT, params![order_id, "declined", amount_cents])?;
            Ok(Outcome::Refused(PaymentDeclined { order_id, reason: Reason::PaymentDeclined }))
        }
    }
}

/// Refuses because the gateway could not be made to answer.
pub(crate) async fn refuse(
    cx: &mut Cx<'_, Db>,
    reserved: InventoryReserved,
    _last_failure: &StepError,
) -> Result<PaymentDeclined, StepError> {
    let InventoryReserved { order_id, amount_cents, .. } = reserved;
    cx.write(INSERT, params![order_id, "declined", amount_cents])?;
    Ok(PaymentDeclined { order_id, reason: Reason::PaymentUnavailable })
}

/// Notes that the gateway gave the money back. When a crash came between the charge and its record there is no payment to
/// note it on; the gateway's own ledger has both.
pub(crate) async fn refund(cx: &mut Cx<'_, Db>, refunded: PaymentRefunded) -> Result<PaymentRefunded, StepError> {
    cx.write(REFUND, params![refunded.order_id])?;
    Ok(refunded)
}

#[cfg(test)]
mod tests;

//! The payment's steps: they record the gateway's decisions.

use order_flow_events::{InventoryReserved, PaymentCharged, PaymentDeclined, PaymentRefunded, Reason};
use saga_core::{Outcome, StepError, StepResult, handler::Cx};
use saga_store::{Db, Write, params};

use crate::{
    gateway::Decision,
    participant::MoneyBack,
    store::{INSERT, REFUND},
};

/// Records the gateway's decision.
pub(crate) async fn charge(
    cx: &mut Cx<'_, Db>,
    reserved: InventoryReserved,
    decision: Decision,
) -> StepResult<PaymentCharged, PaymentDeclined> {
    let InventoryReserved { order_id, amount_cents, shipping_address, .. } = reserved;
    match decision {
        Decision::Captured => {
            cx.write(INSERT, params![order_id, "charged", amount_cents])?;
            Ok(Outcome::Success(PaymentCharged { order_id, shipping_address }))
        }
        Decision::Declined => {
            cx.write(INSERT, params![order_id, "declined", amount_cents])?;
            Ok(Outcome::Refused(PaymentDeclined { order_id, reason: Reason::PaymentDeclined }))
        }
    }
}

/// Refuses, because the gateway did not answer any attempt.
pub(crate) async fn refuse(
    cx: &mut Cx<'_, Db>,
    reserved: InventoryReserved,
    _last_failure: &StepError,
) -> Result<PaymentDeclined, StepError> {
    let InventoryReserved { order_id, amount_cents, .. } = reserved;
    cx.write(INSERT, params![order_id, "declined", amount_cents])?;
    Ok(PaymentDeclined { order_id, reason: Reason::PaymentUnavailable })
}

/// Records the refund. After a crash between the charge and its record there is no payment row to update; the gateway's
/// ledger has both.
pub(crate) async fn refund(cx: &mut Cx<'_, Db>, why: MoneyBack) -> Result<PaymentRefunded, StepError> {
    cx.write(REFUND, params![*why.order_id()])?;
    Ok(why.into())
}

#[cfg(test)]
mod tests;

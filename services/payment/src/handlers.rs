//! The payment's steps: what the gateway answered is written down, for a whole batch of orders at once.

use order_flow_events::{InventoryReserved, PaymentCharged, PaymentDeclined, PaymentRefunded, Reason};
use saga_core::{Outcome, StepError, handler::Cx};
use saga_store::{Db, Rows, params};

use crate::{
    gateway::Answer,
    participant::MoneyBack,
    store::{INSERT, REFUND},
};

/// Notes what the gateway decided.
pub(crate) async fn charge(
    cx: &mut Cx<'_, Db>,
    answered: Vec<(InventoryReserved, Answer)>,
) -> Result<Vec<Outcome<PaymentCharged, PaymentDeclined>>, StepError> {
    let (mut outcomes, mut payments) = (Vec::with_capacity(answered.len()), Rows::new());
    for (reserved, answer) in answered {
        let InventoryReserved { order_id, amount_cents, shipping_address, .. } = reserved;
        match answer {
            Answer::Captured => {
                payments.push(params![order_id, "charged", amount_cents]);
                outcomes.push(Outcome::Success(PaymentCharged { order_id, shipping_address }));
            }
            Answer::Declined => {
                payments.push(params![order_id, "declined", amount_cents]);
                outcomes.push(Outcome::Refused(PaymentDeclined { order_id, reason: Reason::PaymentDeclined }));
            }
        }
    }
    cx.tx().execute_rows(INSERT, &payments, params![]).await?;
    Ok(outcomes)
}

/// Refuses because the gateway could not be made to answer.
pub(crate) async fn give_up(
    cx: &mut Cx<'_, Db>,
    reserved: InventoryReserved,
    _last_failure: &StepError,
) -> Result<PaymentDeclined, StepError> {
    let InventoryReserved { order_id, amount_cents, .. } = reserved;
    let payment: Rows = [params![order_id, "declined", amount_cents]].into_iter().collect();
    cx.tx().execute_rows(INSERT, &payment, params![]).await?;
    Ok(PaymentDeclined { order_id, reason: Reason::PaymentUnavailable })
}

/// Notes that the gateway gave the money back. When a crash came between the charge and its record there is no payment to
/// note it on; the gateway's own ledger has both.
pub(crate) async fn refund(cx: &mut Cx<'_, Db>, undone: Vec<MoneyBack>) -> Result<Vec<PaymentRefunded>, StepError> {
    let refunded: Vec<PaymentRefunded> = undone.into_iter().map(Into::into).collect();
    let orders: Rows = refunded.iter().map(|event| params![event.order_id]).collect();
    cx.tx().execute_rows(REFUND, &orders, params![]).await?;
    Ok(refunded)
}

#[cfg(test)]
mod tests;

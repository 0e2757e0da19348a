//! The inventory's part in the flow: its step, its triggers and its compensation.

use order_flow_events::{PaymentDeclined, PaymentRefunded};
use saga_core::{Participant, Step};
use saga_store::Db;

use crate::handlers::{release, reserve};

/// `order.created` reserves the items, or is refused; a declined or refunded payment releases them.
pub fn participant() -> Participant<Db> {
    let reserve = Step::new("reserve", reserve).undone_by(release);
    Participant::named("inventory").step(reserve.on::<(PaymentDeclined, PaymentRefunded)>())
}

#[cfg(test)]
mod tests;

//! The events of a transfer. In a flow of several services they are a crate that all depend on.

use saga::prelude::*;

/// A customer wants to pay: the saga starts.
#[saga_event(name = "transfer.requested", topic = "transfer.events", saga = "transfer_id", validate = "is_possible")]
pub struct TransferRequested {
    /// The transfer, which is also the saga.
    pub transfer_id: Uuid,
    /// The account at the payer's bank.
    pub from: String,
    /// The account at the payee's bank.
    pub to: String,
    /// The amount.
    pub cents: i64,
}

/// A request without an amount is dead-lettered by whoever consumes it, and refused by whoever publishes it.
fn is_possible(transfer: &TransferRequested) -> Result<(), String> {
    if transfer.cents > 0 { Ok(()) } else { Err(format!("cents: {} is no amount", transfer.cents)) }
}

/// The payer's account has less than the amount: the end, nothing has happened.
#[saga_event(name = "payer.refused", topic = "payer.events", saga = "transfer_id")]
pub struct PayerRefused {
    /// The transfer.
    pub transfer_id: Uuid,
    /// Why.
    pub reason: String,
}

/// The amount has left the payer's account and is in transit.
#[saga_event(name = "payer.debited", topic = "payer.events", saga = "transfer_id")]
pub struct PayerDebited {
    /// The transfer.
    pub transfer_id: Uuid,
    /// The account at the payee's bank.
    pub to: String,
    /// The amount.
    pub cents: i64,
}

/// The amount is on the payee's account: the end.
#[saga_event(name = "payee.credited", topic = "payee.events", saga = "transfer_id")]
pub struct PayeeCredited {
    /// The transfer.
    pub transfer_id: Uuid,
}

/// The payee has no such account, or has closed it.
#[saga_event(name = "payee.refused", topic = "payee.events", saga = "transfer_id")]
pub struct PayeeRefused {
    /// The transfer.
    pub transfer_id: Uuid,
    /// Why.
    pub reason: String,
}

/// The amount is back on the payer's account: the end.
#[saga_event(name = "payer.refunded", topic = "payer.events", saga = "transfer_id", from(PayeeRefused))]
pub struct PayerRefunded {
    /// The transfer.
    pub transfer_id: Uuid,
    /// Why.
    pub reason: String,
}

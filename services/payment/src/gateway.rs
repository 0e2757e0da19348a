//! The interface to a payment gateway, and the guarantees it must give so that no customer pays twice.

use futures::future::BoxFuture;
use saga_core::StepError;
use uuid::Uuid;

/// A payment gateway. Every call is safe to repeat: a call that timed out is repeated with the same key.
pub trait Gateway: Send + Sync + 'static {
    /// Takes the money, once per [`Charge::key`]: a repetition gets the result of the first call, until the charge is
    /// refunded. From then on the result is [`Decision::Declined`], even if the charge was captured before: a gateway
    /// that replays its first result must also be asked for refunds.
    fn charge(&self, charge: Charge) -> BoxFuture<'_, Result<Decision, GatewayError>>;

    /// Refunds the charge. When the charge has taken nothing yet, it must never take anything: the call may still be in
    /// flight, and arrive after this one.
    fn refund(&self, refund: Refund) -> BoxFuture<'_, Result<(), GatewayError>>;
}

/// A request to take money.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Charge {
    /// The idempotency key.
    pub key: Uuid,
    /// The order it pays for.
    pub order_id: Uuid,
    /// In minor units.
    pub amount_cents: i64,
    /// ISO 4217.
    pub currency: String,
    /// The customer's card, as the gateway's token.
    pub payment_method: String,
}

/// A request to refund a charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refund {
    /// The idempotency key of the refund itself.
    pub key: Uuid,
    /// The key of the charge to refund.
    pub charge_key: Uuid,
    /// The order it paid for.
    pub order_id: Uuid,
}

/// A gateway's decision about a charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The money was taken.
    Captured,
    /// No money was taken, and none will be under this key.
    Declined,
}

/// Why the result is unknown: in either case the money may have been taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GatewayError {
    /// This call failed; others may succeed.
    #[error("the gateway did not carry out the call: {0}")]
    Transient(String),
    /// The gateway fails for all callers.
    #[error("the gateway is away: {0}")]
    Down(String),
}

impl From<GatewayError> for StepError {
    fn from(error: GatewayError) -> Self {
        match &error {
            GatewayError::Transient(_) => Self::transient(error.to_string()),
            GatewayError::Down(_) => Self::infrastructure(error.to_string()),
        }
    }
}

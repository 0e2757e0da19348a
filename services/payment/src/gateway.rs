//! What payment asks of a gateway, and what a gateway must promise so that nobody pays twice.

use futures::future::BoxFuture;
use saga_core::StepError;
use uuid::Uuid;

/// A payment gateway. All of it is safe to repeat: a call that timed out is made again with the same key.
pub trait Gateway: Send + Sync + 'static {
    /// Takes the money, once per [`Charge::key`]: a repetition is answered as the first call was, until the charge is
    /// undone. From then on it is [`Answer::Declined`], also when it was captured before: a gateway that replays its first
    /// answer must be asked for refunds as well.
    fn charge(&self, charge: Charge) -> BoxFuture<'_, Result<Answer, GatewayError>>;

    /// Gives back what the charge took. When it took nothing yet, it must never take anything: the call may still be under
    /// way, and arrive after this one.
    fn refund(&self, refund: Refund) -> BoxFuture<'_, Result<(), GatewayError>>;
}

/// Money to be taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Charge {
    /// The idempotency key.
    pub key: Uuid,
    /// What it is for.
    pub order_id: Uuid,
    /// In minor units.
    pub amount_cents: i64,
    /// ISO 4217.
    pub currency: String,
    /// The customer's card, as the gateway's token.
    pub payment_method: String,
}

/// Money to be given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refund {
    /// The idempotency key of the refund itself.
    pub key: Uuid,
    /// The key of the charge that is undone.
    pub charge_key: Uuid,
    /// What it was for.
    pub order_id: Uuid,
}

/// What a gateway decides about a charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The money is taken.
    Captured,
    /// It is not, and will not be under this key.
    Declined,
}

/// Why there is no answer. In either case the money may have been taken or not.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GatewayError {
    /// This call failed; others may do well.
    #[error("the gateway did not carry out the call: {0}")]
    Transient(String),
    /// The gateway fails for everybody.
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

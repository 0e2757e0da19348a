//! The order's part in the flow: it starts the saga, waits for its end, and limits the wait.

use std::time::Duration;

use order_flow_events::{OrderCancellationRequested, OrderCancelled, OrderConfirmed, OrderCreated};
use saga_core::{Participant, Step};
use saga_store::Db;

use crate::handlers::{cancel, confirm, expire, register};

/// An order that is neither confirmed nor cancelled within `deadline` after its registration is cancelled.
pub fn participant(deadline: Duration) -> Participant<Db> {
    Participant::named("order")
        .publishes::<OrderCreated>()
        .publishes::<OrderCancellationRequested>()
        .step(Step::new("register", register).deadline(deadline, expire))
        .step(Step::new("confirm", confirm).pivot())
        .step(Step::new("cancel", cancel))
        .completes_with::<OrderConfirmed>()
        .compensates_with::<OrderCancelled>()
}

#[cfg(test)]
mod tests;

//! One transaction for some events: admit them, run what is to run, and commit it all.

use std::time::Duration;

use crate::runtime::{
    Shared,
    in_flight::InFlight,
    transaction::{
        admit::admission,
        open::Attempt,
        result::{FailedAttempt, Transaction},
    },
};
use crate::{
    clock::Clock,
    store::{Admission, Store},
    transport::Producer,
};

/// Runs one transaction, which waits for another one's lock no longer than `lock_timeout`.
pub(crate) async fn attempt<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    events: &[InFlight],
    lock_timeout: Duration,
) -> Result<Transaction, FailedAttempt> {
    let now = shared.clock.now();
    let admissions: Vec<Admission> = events.iter().map(|event| admission(shared, event)).collect();
    let (mut tx, before) = shared.store.begin(&admissions, lock_timeout).await?;
    let mut attempt = Attempt::new(shared, events, now);
    for (i, (admission, before)) in admissions.iter().zip(&before).enumerate() {
        attempt.decide(i, admission, before)?;
    }
    attempt.run_prepares(&mut tx).await?;
    attempt.run_handlers(&mut tx).await?;
    attempt.run_refusals(&mut tx).await?;
    attempt.commit(tx).await
}

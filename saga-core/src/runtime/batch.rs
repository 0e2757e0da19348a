//! A batch of events brought to the end of their transactions: together when that works; when a handler fails, the batch is
//! halved until the event that fails stands alone, so that one bad event neither takes others with it nor costs each of
//! them a transaction.

use std::rc::Rc;

use jiff::Timestamp;

use super::{
    Shared,
    attempt::{Done, Transaction, Trouble, attempt},
    work::Work,
};
use crate::{
    clock::Clock,
    outcome::{ErrorClass, StepError},
    store::{Store, StoreError},
    transport::Producer,
};

/// What transactions made of their events.
pub(super) struct Batch {
    /// In the order of the events, with what became of each or why it failed; nothing was written of one that failed.
    pub(super) works: Vec<(Work, Result<Done, StepError>)>,
    /// The earliest time at which a parked saga or a timer written here is due.
    pub(super) due: Option<Timestamp>,
}

/// Runs these events to the end of their transactions, however long the database makes us wait.
pub(super) async fn run<S: Store, P: Producer, C: Clock>(shared: Rc<Shared<S, P, C>>, works: Vec<Work>) -> Batch {
    let mut batch = Batch { works: Vec::with_capacity(works.len()), due: None };
    let mut parts = vec![works];
    while let Some(mut part) = parts.pop() {
        match transact(&shared, &part).await {
            Ok(Transaction { done, due }) => {
                batch.due = [batch.due, due].into_iter().flatten().min();
                batch.works.extend(part.into_iter().zip(done.into_iter().map(Ok)));
            }
            Err(error) if part.len() == 1 => batch.works.extend(part.pop().map(|work| (work, Err(error)))),
            Err(error) => {
                tracing::debug!(%error, events = part.len(), "a batch failed and is halved");
                let second = part.split_off(part.len() / 2);
                parts.extend([second, part]);
            }
        }
    }
    batch
}

/// That many conflicts of one batch in a row are no coincidence: somebody holds what it needs, and readiness says so.
const MANY_CONFLICTS: u32 = 20;

/// Tries until the transaction commits or a handler fails.
async fn transact<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    works: &[Work],
) -> Result<Transaction, StepError> {
    let mut pause = shared.options.first_pause;
    let mut conflicts = 0;
    loop {
        let trouble = match attempt(shared, works).await {
            Ok(done) => {
                shared.health.set_waiting("database", None);
                return Ok(done);
            }
            Err(Trouble::Handler(error)) if error.class() != ErrorClass::Infrastructure => return Err(error),
            Err(Trouble::Store(StoreError::Rejected(why))) => return Err(StepError::permanent(why)),
            Err(Trouble::Handler(error)) => error,
            Err(Trouble::Store(error)) => error.into(),
        };
        // Deadlocks and serialisation failures are over as soon as the other transaction is.
        conflicts += 1;
        if trouble.is_conflict() && conflicts < MANY_CONFLICTS {
            tracing::debug!(error = %trouble, "a transaction conflicted and is run again");
            shared.clock.sleep(shared.options.first_pause / 10).await;
            continue;
        }
        shared.health.set_waiting("database", Some(trouble.to_string()));
        shared.clock.sleep(pause).await;
        pause = (pause * 2).min(shared.options.longest_pause);
    }
}

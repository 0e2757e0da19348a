//! A batch of events brought to the end of their transactions: together when that works; else the batch is halved until
//! what fails, or waits for somebody's lock, stands alone, so that one event neither takes others with it nor costs each of
//! them a transaction.

use std::{rc::Rc, time::Duration};

use jiff::Timestamp;

use super::{
    Shared,
    attempt::{Done, Transaction, Trouble, attempt},
    stage::{Happened, Stage},
    work::{Origin, Work},
};
use crate::{
    clock::Clock,
    outcome::{ErrorClass, StepError},
    store::{Store, StoreError},
    transport::Producer,
};

/// What transactions made of their events.
pub(super) struct Batch {
    /// What became of each event, or why it failed; nothing was written of one that failed.
    pub(super) works: Vec<(Work, Result<Done, StepError>)>,
    /// The earliest time at which a parked saga or a timer written here is due.
    pub(super) due: Option<Timestamp>,
}

/// Runs these events to the end of their transactions, however long the database makes us wait.
pub(super) async fn run<S: Store, P: Producer, C: Clock>(shared: Rc<Shared<S, P, C>>, works: Vec<Work>) -> Batch {
    let mut batch = Batch { works: Vec::with_capacity(works.len()), due: None };
    let mut patience = Patience::new(&shared.options.patience, &works);
    let mut parts = vec![works];
    while let Some(mut part) = parts.pop() {
        match transact(&shared, &part, &mut patience).await {
            Ok(Transaction { done, due }) => {
                batch.due = [batch.due, due].into_iter().flatten().min();
                worked(&shared, &part, &done);
                batch.works.extend(part.into_iter().zip(done.into_iter().map(Ok)));
            }
            Err(error) if part.len() == 1 => {
                let Some(work) = part.pop() else { continue };
                let error = judge(&shared, &work, error);
                batch.works.push((work, Err(error)));
            }
            Err(error) => {
                tracing::debug!(%error, events = part.len(), "a batch failed and is halved");
                let second = part.split_off(part.len() / 2);
                parts.extend([second, part]);
            }
        }
    }
    batch
}

/// How long the transactions of a batch wait for locks: the first for some time, those that look for what is locked for a
/// tenth of it, and all together for a bounded time.
struct Patience {
    first: Duration,
    left: Duration,
    looking: bool,
}

impl Patience {
    fn new(patience: &Duration, works: &[Work]) -> Self {
        // What was parked may have been parked for a lock that is still held: fresh events do not wait for it again.
        let parked = works.iter().any(|work| matches!(work.origin, Origin::Parked { .. }));
        Self { first: *patience, left: *patience * 4, looking: parked }
    }

    fn now(&self) -> Duration {
        let wanted = if self.looking { self.first / 10 } else { self.first };
        wanted.min(self.left).max(Duration::from_millis(1))
    }

    fn waited(&mut self) {
        self.left = self.left.saturating_sub(self.now());
        self.looking = true;
    }
}

/// That many conflicts of one batch in a row are no coincidence: somebody holds what it needs, and readiness says so.
const MANY_CONFLICTS: u32 = 20;
/// After so many, a batch is halved: two that take what they share in different orders meet less often the smaller they are.
const SOME_CONFLICTS: u32 = 5;
/// A transaction that takes longer is near the limit of a statement's time: run again unchanged, it would fail for ever.
const SLOW: Duration = Duration::from_secs(8);

/// Tries until the transaction commits, or until the batch is to be halved.
async fn transact<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    works: &[Work],
    patience: &mut Patience,
) -> Result<Transaction, StepError> {
    let mut pause = shared.options.first_pause;
    let mut conflicts = 0;
    loop {
        let began = shared.clock.now();
        let trouble = match attempt(shared, works, patience.now()).await {
            Ok(done) => {
                shared.health.set_waiting("database", None);
                return Ok(done);
            }
            Err(Trouble::Handler(error)) => error,
            Err(Trouble::Store(error)) => error.into(),
        };
        if trouble.is_locked() {
            patience.waited();
            return Err(trouble);
        }
        if trouble.class() != ErrorClass::Infrastructure {
            return Err(trouble);
        }
        let took = Duration::try_from(shared.clock.now().duration_since(began)).unwrap_or_default();
        conflicts += u32::from(trouble.is_conflict());
        if works.len() > 1 && (conflicts >= SOME_CONFLICTS || took >= SLOW) {
            return Err(trouble);
        }
        // Deadlocks and serialisation failures are over as soon as the other transaction is.
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

/// A refusal of the database that meets one saga after another is no event's fault: nothing is dead-lettered for it, and
/// readiness says why.
fn judge<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, work: &Work, error: StepError) -> StepError {
    let Some(why) = error.rejected() else { return error };
    let now = shared.clock.now();
    if !shared.blame.borrow_mut().refused((work.step, work.op), why, work.saga_id(), now) {
        return error;
    }
    let why = format!("{} is refused for one saga after another: {why}", work.half);
    shared.health.set_waiting("handlers", Some(why.clone()));
    StoreError::Broken(why).into()
}

/// Handlers that have worked are under no suspicion.
fn worked<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, works: &[Work], done: &[Done]) {
    let mut blame = shared.blame.borrow_mut();
    for (work, done) in works.iter().zip(done) {
        let ran = done.happened == Happened::Ended && matches!(work.stage, Stage::Whole | Stage::Finish);
        if ran && blame.worked((work.step, work.op)) && blame.is_clear() {
            shared.health.set_waiting("handlers", None);
        }
    }
}

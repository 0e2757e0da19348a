//! A batch of events brought to the end of their transactions: together when that works; else the batch is halved until
//! what fails, or waits for somebody's lock, stands alone, so that one event neither takes others with it nor costs each of
//! them a transaction.

use std::{rc::Rc, time::Duration};

use jiff::Timestamp;

use super::{
    Shared,
    attempt::{At, Done, Transaction, Trouble, attempt},
    stage::Stage,
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
            Ok(Transaction { done, ran, due }) => {
                batch.due = [batch.due, due].into_iter().flatten().min();
                worked(&shared, &part, &ran);
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
/// So often in a row a handler finds the database unavailable in a transaction that it has opened, before that is taken for
/// the doing of what the handler asks of it.
const SOME_FAILURES: u32 = 5;

/// What the tries of one batch have met.
#[derive(Default)]
struct Tries {
    conflicts: u32,
    /// Times that the database was unavailable once a handler had asked it for something.
    unavailable: u32,
    broken: u32,
}

impl Tries {
    /// Counts a failure that may pass, and says why the batch is not tried again as it is; none when it is.
    fn enough(&mut self, Trouble { error, at }: &Trouble, took: Duration, events: usize) -> Option<&'static str> {
        let handlers = *at != At::Framework;
        self.conflicts += u32::from(error.is_conflict());
        self.unavailable += u32::from(handlers && error.is_unavailable());
        self.broken += u32::from(*at == At::Handler && error.broken().is_some());
        let together = events > 1;
        let of_database = error.is_unavailable() || error.is_conflict();
        if took >= SLOW && (together || handlers && of_database) {
            return Some("it takes too long");
        }
        if self.conflicts >= SOME_CONFLICTS && together || self.conflicts >= MANY_CONFLICTS && handlers {
            return Some("it conflicts with others again and again");
        }
        if self.unavailable >= SOME_FAILURES {
            return Some("the database fails in it again and again");
        }
        // Tried twice: what was prepared before its table was changed is prepared anew.
        (self.broken > 1 || self.broken > 0 && together).then_some("its statement is wrong")
    }
}

/// Tries until the transaction commits, until the batch is to be halved, or until the one event is to be set aside.
async fn transact<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    works: &[Work],
    patience: &mut Patience,
) -> Result<Transaction, StepError> {
    let mut pause = shared.options.first_pause;
    let mut tries = Tries::default();
    loop {
        let began = shared.clock.now();
        let trouble = match attempt(shared, works, patience.now()).await {
            Ok(done) => {
                shared.health.set_waiting("database", None);
                return Ok(done);
            }
            Err(trouble) => trouble,
        };
        if trouble.error.is_locked() {
            patience.waited();
            return Err(trouble.error);
        }
        if trouble.error.class() != ErrorClass::Infrastructure {
            return Err(trouble.error);
        }
        let took = Duration::try_from(shared.clock.now().duration_since(began)).unwrap_or_default();
        if let Some(why) = tries.enough(&trouble, took, works.len()) {
            let Trouble { error, .. } = trouble;
            // That a statement is wrong is told by whoever judges it.
            return Err(if error.broken().is_some() { error } else { error.set_aside(why) });
        }
        let Trouble { error, .. } = trouble;
        // Deadlocks and serialisation failures are over as soon as the other transaction is.
        if error.is_conflict() && tries.conflicts < MANY_CONFLICTS {
            tracing::debug!(%error, "a transaction conflicted and is run again");
            shared.clock.sleep(shared.options.first_pause / 10).await;
            continue;
        }
        shared.health.set_waiting("database", Some(error.to_string()));
        shared.clock.sleep(pause).await;
        pause = (pause * 2).min(shared.options.longest_pause);
    }
}

/// A refusal of the database that meets one saga after another is no event's fault, and a statement that is wrong never is:
/// nothing is dead-lettered for it, and readiness says why.
fn judge<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, work: &Work, error: StepError) -> StepError {
    let (half, saga, now) = ((work.step, work.op), work.saga_id(), shared.clock.now());
    let mut blame = shared.blame.borrow_mut();
    if let Some(why) = error.broken() {
        blame.broken(half, why, saga, now);
        shared.health.set_waiting("handlers", Some(format!("a statement of {} is wrong: {why}", work.half)));
        return error;
    }
    let Some(why) = error.rejected() else { return error };
    if !blame.refused(half, why, saga, now) {
        return error;
    }
    let why = format!("{} is refused for one saga after another: {why}", work.half);
    shared.health.set_waiting("handlers", Some(why.clone()));
    StoreError::Broken(why).into()
}

/// Handlers that have worked are under no suspicion.
fn worked<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, works: &[Work], ran: &[bool]) {
    let mut blame = shared.blame.borrow_mut();
    for (work, ran) in works.iter().zip(ran) {
        let own = *ran && matches!(work.stage, Stage::Whole | Stage::Finish);
        if own && blame.worked((work.step, work.op)) && blame.is_clear() {
            shared.health.set_waiting("handlers", None);
        }
    }
}

//! A batch of events in one transaction. When it fails, the batch is divided until the event that fails, or waits for a lock,
//! is alone. So one bad event fails no others, and does not cost each of them a transaction.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use jiff::Timestamp;

use crate::runtime::{
    Shared,
    in_flight::{InFlight, TakenFrom},
    stage::Stage,
    transaction::handler_failures::HandlerId,
    transaction::{
        attempt::attempt,
        due::Due,
        result::{Done, FailedAttempt, FailedIn, Transaction},
    },
};
use crate::{
    clock::{Clock, after},
    outcome::{ErrorClass, StepError},
    store::{Refusal, Store, StoreError},
    transport::Producer,
};

/// What became of a batch.
pub(crate) struct Batch {
    /// What became of each event, or why it failed. Nothing was written for one that failed.
    pub(crate) events: Vec<(InFlight, Result<Done, StepError>)>,
    /// Events that wait for the next turn.
    pub(crate) left: Vec<InFlight>,
    /// When the first of what is written here is due.
    pub(crate) due: Due<Timestamp>,
}

/// A batch that fails leaves the slot to others after this, once some of it is done.
const TURN: Duration = Duration::from_secs(5);
/// A failed attempt that took longer than this counts as slow, and its handler is tried less often.
const LONG: Duration = Duration::from_millis(500);

/// Runs these events to the end of their transactions, however long the database is away.
pub(crate) async fn run<S: Store, P: Producer, C: Clock>(shared: Rc<Shared<S, P, C>>, events: Vec<InFlight>) -> Batch {
    let mut batch = Batch { events: Vec::with_capacity(events.len()), left: Vec::new(), due: Due::default() };
    let mut lock_timeout = LockBudget::new(&shared.options.lock_timeout, &events);
    let until = after(shared.clock.now(), TURN);
    // Handlers that failed for all sagas before are tried again, to see whether they still do.
    let mut tried: Vec<HandlerId> =
        events.iter().map(HandlerId::of).filter(|handler| fails_for_everybody(&shared, *handler)).collect();
    let mut long: Vec<HandlerId> = Vec::new();
    // Probes run alone and last, since most of them fail again.
    let (probes, events): (Vec<InFlight>, Vec<InFlight>) = events.into_iter().partition(|event| event.is_admitted);
    let mut parts: Vec<Vec<InFlight>> = probes.into_iter().map(|probe| vec![probe]).collect();
    parts.push(events);
    while let Some(part) = parts.pop() {
        let (mut part, not_run) = without_failing_handlers(&shared, part, &tried);
        batch.events.extend(not_run);
        if part.is_empty() {
            continue;
        }
        if !batch.events.is_empty() && shared.clock.now() >= until {
            batch.left.append(&mut part);
            continue;
        }
        match transact(&shared, &part, &mut lock_timeout).await {
            Ok(Transaction { done, ran, due }) => {
                batch.due = batch.due.or(due);
                worked(&shared, &part, &ran);
                batch.events.extend(part.into_iter().zip(done.into_iter().map(Ok)));
            }
            Err(PartFailed { named, took, .. }) if !named.is_empty() => {
                let mut failed: BTreeMap<usize, StepError> = named.into_iter().rev().collect();
                let mut others = Vec::with_capacity(part.len());
                for (place, mut event) in part.into_iter().enumerate() {
                    match failed.remove(&place) {
                        Some(error) => {
                            event.took = took;
                            let error = judge(&shared, &event, error);
                            batch.events.push((event, Err(error)));
                        }
                        None => others.push(event),
                    }
                }
                parts.push(others);
            }
            Err(PartFailed { error, took, .. }) if part.len() == 1 => {
                let Some(mut event) = part.pop() else { continue };
                event.took = took;
                let error = judge(&shared, &event, error);
                if took >= LONG {
                    let handler = HandlerId::of(&event);
                    shared.handler_failures.borrow_mut().took_long(handler, took, shared.clock.now());
                    // Two of each, in case the first is the one that fails.
                    if long.contains(&handler) {
                        tried.retain(|tried| *tried != handler);
                    }
                    long.push(handler);
                }
                batch.events.push((event, Err(error)));
            }
            Err(PartFailed { error, took, .. }) => {
                tracing::debug!(%error, events = part.len(), "a batch failed and is divided");
                // A slow failure is narrowed down in fewer tries.
                parts.extend(divided(part, if took >= SLOW { 16 } else { 2 }));
            }
        }
    }
    batch
}

/// Divides by handler first: a handler that fails for all sagas does not concern the others. The first part is tried last.
fn divided(part: Vec<InFlight>, pieces: usize) -> Vec<Vec<InFlight>> {
    let (size, mut by_handler) = (part.len().div_ceil(pieces), Vec::<Vec<InFlight>>::new());
    for event in part {
        let same =
            by_handler.iter_mut().find(|events| events.first().map(HandlerId::of) == Some(HandlerId::of(&event)));
        match same {
            Some(events) => events.push(event),
            None => by_handler.push(vec![event]),
        }
    }
    if by_handler.len() > 1 {
        return by_handler;
    }
    let mut only = by_handler.pop().unwrap_or_default();
    let mut divided = Vec::with_capacity(pieces);
    while only.len() > size {
        divided.push(only.split_off(only.len() - size));
    }
    divided.push(only);
    divided
}

fn fails_for_everybody<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, handler: HandlerId) -> bool {
    shared.handler_failures.borrow().fails_for_everybody(handler).is_some()
}

/// Events that did not run, and why.
type NotRun = Vec<(InFlight, Result<Done, StepError>)>;

/// Splits off events whose handler an earlier part of the batch has shown to fail for all sagas.
fn without_failing_handlers<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    part: Vec<InFlight>,
    tried: &[HandlerId],
) -> (Vec<InFlight>, NotRun) {
    let handler_failures = shared.handler_failures.borrow();
    if handler_failures.is_empty() {
        return (part, Vec::new());
    }
    let (mut kept, mut held) = (Vec::with_capacity(part.len()), Vec::new());
    for event in part {
        let handler = HandlerId::of(&event);
        let runs = matches!(event.stage, Stage::Whole | Stage::Start | Stage::Finish | Stage::Exhaust);
        match handler_failures.fails_for_everybody(handler).filter(|_| runs && !tried.contains(&handler)) {
            Some(why) => {
                let error = StoreError::Broken(why.to_owned()).into();
                held.push((event, Err(error)));
            }
            None => kept.push(event),
        }
    }
    (kept, held)
}

/// How long the transactions of a batch wait for locks: the first for the whole timeout, those that narrow the lock down for a
/// tenth of it, and all together for a bounded time.
struct LockBudget {
    first: Duration,
    left: Duration,
    looking: bool,
}

impl LockBudget {
    fn new(lock_timeout: &Duration, events: &[InFlight]) -> Self {
        // A parked event may wait for a lock that is still taken. Fresh events do not wait for it again.
        let parked = events.iter().any(|event| matches!(event.origin, TakenFrom::Parked { .. }));
        Self { first: *lock_timeout, left: *lock_timeout * 4, looking: parked }
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

/// After so many conflicts in a row another transaction keeps what the batch needs, and readiness says so.
const MANY_CONFLICTS: u32 = 20;
/// After so many conflicts a batch is divided: small transactions conflict less often.
const SOME_CONFLICTS: u32 = 5;
/// A transaction that takes longer is near the time limit of a statement. Run again unchanged, it would fail again.
const SLOW: Duration = Duration::from_secs(8);
/// After so many times that the database was unavailable in an open transaction, the handler's statement counts as the cause.
const SOME_FAILURES: u32 = 5;
/// The same, before a batch is divided.
const FEW_FAILURES: u32 = 2;

/// Failures of one batch, by kind.
#[derive(Default)]
struct Tries {
    conflicts: u32,
    /// Times that the database was unavailable once a handler had asked it for something.
    unavailable: u32,
    broken: u32,
}

impl Tries {
    /// Counts a failure that may pass. Returns why the batch is not tried again as it is, or none when it is.
    fn enough(&mut self, error: &StepError, at: FailedIn, took: Duration, events: usize) -> Option<&'static str> {
        let handlers = at != FailedIn::Framework;
        self.conflicts += u32::from(error.is_conflict());
        let broken = error.broken().is_some();
        let unavailable = handlers && !broken && !error.is_conflict();
        self.unavailable += u32::from(unavailable);
        // Deferred writes of handlers fail at the commit.
        self.broken += u32::from(handlers && broken);
        let together = events > 1;
        let of_database = unavailable || error.is_conflict();
        if took >= SLOW && (together || handlers && of_database) {
            return Some("it takes too long");
        }
        if self.conflicts >= SOME_CONFLICTS && together || self.conflicts >= MANY_CONFLICTS && handlers {
            return Some("it conflicts with others repeatedly");
        }
        if self.unavailable >= if together { FEW_FAILURES } else { SOME_FAILURES } {
            return Some("the database fails in it repeatedly");
        }
        // Tried twice: a statement that was prepared before its table changed is prepared again.
        (self.broken > 1 || self.broken > 0 && together).then_some("its statement is wrong")
    }
}

/// Why the events of one transaction failed together.
struct PartFailed {
    error: StepError,
    /// How long the tries took in which the database was there.
    took: Duration,
    /// The events, by their place, that their handler has named. The others did not fail.
    named: Vec<(usize, StepError)>,
}

/// Tries until the transaction commits, the batch is to be divided, or its only event is to be set aside.
async fn transact<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    events: &[InFlight],
    lock_timeout: &mut LockBudget,
) -> Result<Transaction, PartFailed> {
    let mut pause = shared.options.first_pause;
    let (mut tries, mut took) = (Tries::default(), Duration::ZERO);
    loop {
        let began = shared.clock.now();
        let FailedAttempt { error, at, named } = match attempt(shared, events, lock_timeout.now()).await {
            Ok(done) => {
                shared.health.set_waiting("database", None);
                return Ok(done);
            }
            Err(trouble) => trouble,
        };
        let tried = Duration::try_from(shared.clock.now().duration_since(began)).unwrap_or_default();
        if at != FailedIn::Framework {
            took += tried;
            // The database opened a transaction, so it is available.
            shared.health.set_waiting("database", None);
        }
        if error.is_locked() {
            lock_timeout.waited();
            return Err(PartFailed { error, took: tried, named });
        }
        if !named.is_empty() || error.class() != ErrorClass::Infrastructure {
            return Err(PartFailed { error, took: tried, named });
        }
        let is_quick = error.is_conflict() && tries.conflicts < MANY_CONFLICTS;
        if at == FailedIn::Framework && !is_quick {
            shared.health.set_waiting("database", Some(error.to_string()));
        }
        if let Some(why) = tries.enough(&error, at, tried, events.len()) {
            // `judge` reports a wrong statement.
            let error = if error.broken().is_some() { error } else { error.set_aside(why) };
            return Err(PartFailed { error, took: took.max(tried), named });
        }
        // Deadlocks and serialisation failures are over as soon as the other transaction is.
        let wait = if is_quick { shared.options.first_pause / 10 } else { pause };
        if !is_quick {
            pause = (pause * 2).min(shared.options.longest_pause);
        }
        if at != FailedIn::Framework {
            took += wait;
        }
        shared.clock.sleep(wait).await;
    }
}

/// Decides whether a failure is the event's. A wrong statement never is. A refusal of the database for one saga after another
/// is the handler's: nothing is dead-lettered for it, and readiness says why. Events that are set aside one saga after another
/// are treated alike.
fn judge<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, event: &InFlight, error: StepError) -> StepError {
    let (handler, saga, now) = (HandlerId::of(event), event.saga_id(), shared.clock.now());
    let mut handler_failures = shared.handler_failures.borrow_mut();
    if let Some(why) = error.broken() {
        handler_failures.broken(handler, why, saga, now);
        shared.health.set_waiting("handlers", Some(format!("a statement of {} is wrong: {why}", event.half)));
        return error;
    }
    if error.is_set_aside() {
        let why = Refusal::new("set aside", error.to_string());
        if handler_failures.refused(handler, &why, saga, now) {
            let why = format!("{} fails for one saga after another: {error}", event.half);
            shared.health.set_waiting("handlers", Some(why));
        }
        return error;
    }
    let Some(why) = error.rejected() else { return error };
    if !handler_failures.refused(handler, why, saga, now) {
        return error;
    }
    let why = format!("{} is refused for one saga after another: {why}", event.half);
    shared.health.set_waiting("handlers", Some(why.clone()));
    StoreError::Broken(why).into()
}

/// Clears the failures of handlers that have worked.
fn worked<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, events: &[InFlight], ran: &[bool]) {
    let mut handler_failures = shared.handler_failures.borrow_mut();
    for (event, ran) in events.iter().zip(ran) {
        let own = *ran && matches!(event.stage, Stage::Whole | Stage::Finish | Stage::Exhaust);
        if own && handler_failures.worked(HandlerId::of(event)) && handler_failures.is_clear() {
            shared.health.set_waiting("handlers", None);
        }
    }
}

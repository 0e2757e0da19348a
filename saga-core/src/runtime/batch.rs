//! A batch of events brought to the end of their transactions: together when that works; else the batch is divided until
//! what fails, or waits for somebody's lock, stands alone, so that one event neither takes others with it nor costs each of
//! them a transaction.

use std::{rc::Rc, time::Duration};

use jiff::Timestamp;

use super::{
    Shared,
    attempt::{At, Done, Transaction, Trouble, attempt},
    blame::Handler,
    plan::Due,
    stage::Stage,
    work::{Origin, Work},
};
use crate::{
    clock::{Clock, after},
    outcome::{ErrorClass, StepError},
    store::{Refusal, Store, StoreError},
    transport::Producer,
};

/// What transactions made of their events.
pub(super) struct Batch {
    /// What became of each event, or why it failed; nothing was written of one that failed.
    pub(super) works: Vec<(Work, Result<Done, StepError>)>,
    /// Those that have to wait for the next turn.
    pub(super) left: Vec<Work>,
    /// When the first of what is written here is due.
    pub(super) due: Due<Timestamp>,
}

/// A batch in trouble leaves the slot to others after this, as soon as some of it is done with.
const TURN: Duration = Duration::from_secs(5);
/// What fails after this is not tried ten times in a row.
const LONG: Duration = Duration::from_millis(500);

/// Runs these events to the end of their transactions, however long the database makes us wait.
pub(super) async fn run<S: Store, P: Producer, C: Clock>(shared: Rc<Shared<S, P, C>>, works: Vec<Work>) -> Batch {
    let mut batch = Batch { works: Vec::with_capacity(works.len()), left: Vec::new(), due: Due::default() };
    let mut patience = Patience::new(&shared.options.patience, &works);
    let until = after(shared.clock.now(), TURN);
    // Those that met everybody before are tried all the same, to see whether they still do.
    let mut tried: Vec<Handler> =
        works.iter().map(Handler::of).filter(|handler| is_everybodys(&shared, *handler)).collect();
    let mut long: Vec<Handler> = Vec::new();
    // Each of these alone, and behind the others: it is known what becomes of most.
    let (probes, works): (Vec<Work>, Vec<Work>) = works.into_iter().partition(|work| work.is_admitted);
    let mut parts: Vec<Vec<Work>> = probes.into_iter().map(|probe| vec![probe]).collect();
    parts.push(works);
    while let Some(part) = parts.pop() {
        let (mut part, held) = without_what_meets_everybody(&shared, part, &tried);
        batch.works.extend(held);
        if part.is_empty() {
            continue;
        }
        if !batch.works.is_empty() && shared.clock.now() >= until {
            batch.left.append(&mut part);
            continue;
        }
        match transact(&shared, &part, &mut patience).await {
            Ok(Transaction { done, ran, due }) => {
                batch.due = batch.due.or(due);
                worked(&shared, &part, &ran);
                batch.works.extend(part.into_iter().zip(done.into_iter().map(Ok)));
            }
            Err((error, took)) if part.len() == 1 => {
                let Some(mut work) = part.pop() else { continue };
                work.took = took;
                let error = judge(&shared, &work, error);
                if took >= LONG {
                    let handler = Handler::of(&work);
                    shared.blame.borrow_mut().took_long(handler, took, shared.clock.now());
                    // Two of each, lest the one that fails is always the first.
                    if long.contains(&handler) {
                        tried.retain(|tried| *tried != handler);
                    }
                    long.push(handler);
                }
                batch.works.push((work, Err(error)));
            }
            Err((error, took)) => {
                tracing::debug!(%error, events = part.len(), "a batch failed and is divided");
                // What takes long is looked for in fewer tries.
                parts.extend(divided(part, if took >= SLOW { 16 } else { 2 }));
            }
        }
    }
    batch
}

/// By handler first: what one does for everybody does not concern the others. The first is tried last.
fn divided(part: Vec<Work>, pieces: usize) -> Vec<Vec<Work>> {
    let (size, mut by_handler) = (part.len().div_ceil(pieces), Vec::<Vec<Work>>::new());
    for work in part {
        let same = by_handler.iter_mut().find(|works| works.first().map(Handler::of) == Some(Handler::of(&work)));
        match same {
            Some(works) => works.push(work),
            None => by_handler.push(vec![work]),
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

fn is_everybodys<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, handler: Handler) -> bool {
    shared.blame.borrow().everybodys(handler).is_some()
}

/// Events that did not run, and why.
type NotRun = Vec<(Work, Result<Done, StepError>)>;

/// What an earlier part of the batch has shown to meet everybody is not tried with each of the others.
fn without_what_meets_everybody<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    part: Vec<Work>,
    tried: &[Handler],
) -> (Vec<Work>, NotRun) {
    let blame = shared.blame.borrow();
    if blame.is_empty() {
        return (part, Vec::new());
    }
    let (mut kept, mut held) = (Vec::with_capacity(part.len()), Vec::new());
    for work in part {
        let handler = Handler::of(&work);
        let runs = matches!(work.stage, Stage::Whole | Stage::Start | Stage::Finish | Stage::Exhaust);
        match blame.everybodys(handler).filter(|_| runs && !tried.contains(&handler)) {
            Some(why) => {
                let error = StoreError::Broken(why.to_owned()).into();
                held.push((work, Err(error)));
            }
            None => kept.push(work),
        }
    }
    (kept, held)
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
/// After so many, a batch is divided: two that take what they share in different orders meet less often the smaller they are.
const SOME_CONFLICTS: u32 = 5;
/// A transaction that takes longer is near the limit of a statement's time: run again unchanged, it would fail for ever.
const SLOW: Duration = Duration::from_secs(8);
/// So often in a row a handler finds the database unavailable in a transaction that it has opened, before that is taken for
/// the doing of what the handler asks of it.
const SOME_FAILURES: u32 = 5;
/// So often, before a batch is divided.
const FEW_FAILURES: u32 = 2;

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
    fn enough(&mut self, error: &StepError, at: At, took: Duration, events: usize) -> Option<&'static str> {
        let handlers = at != At::Framework;
        self.conflicts += u32::from(error.is_conflict());
        let broken = error.broken().is_some();
        let unavailable = handlers && !broken && !error.is_conflict();
        self.unavailable += u32::from(unavailable);
        self.broken += u32::from(at == At::Handler && broken);
        let together = events > 1;
        let of_database = unavailable || error.is_conflict();
        if took >= SLOW && (together || handlers && of_database) {
            return Some("it takes too long");
        }
        if self.conflicts >= SOME_CONFLICTS && together || self.conflicts >= MANY_CONFLICTS && handlers {
            return Some("it conflicts with others again and again");
        }
        if self.unavailable >= if together { FEW_FAILURES } else { SOME_FAILURES } {
            return Some("the database fails in it again and again");
        }
        // Tried twice: what was prepared before its table was changed is prepared anew.
        (self.broken > 1 || self.broken > 0 && together).then_some("its statement is wrong")
    }
}

/// Tries until the transaction commits, until the batch is to be divided, or until the one event is to be set aside: then with
/// how long the tries took in which the database was there.
async fn transact<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    works: &[Work],
    patience: &mut Patience,
) -> Result<Transaction, (StepError, Duration)> {
    let mut pause = shared.options.first_pause;
    let (mut tries, mut took) = (Tries::default(), Duration::ZERO);
    loop {
        let began = shared.clock.now();
        let Trouble { error, at } = match attempt(shared, works, patience.now()).await {
            Ok(done) => {
                shared.health.set_waiting("database", None);
                return Ok(done);
            }
            Err(trouble) => trouble,
        };
        let tried = Duration::try_from(shared.clock.now().duration_since(began)).unwrap_or_default();
        if at != At::Framework {
            took += tried;
            // It had opened a transaction for us.
            shared.health.set_waiting("database", None);
        }
        if error.is_locked() {
            patience.waited();
            return Err((error, tried));
        }
        if error.class() != ErrorClass::Infrastructure {
            return Err((error, tried));
        }
        let is_quick = error.is_conflict() && tries.conflicts < MANY_CONFLICTS;
        if at == At::Framework && !is_quick {
            shared.health.set_waiting("database", Some(error.to_string()));
        }
        if let Some(why) = tries.enough(&error, at, tried, works.len()) {
            // That a statement is wrong is told by whoever judges it.
            return Err((if error.broken().is_some() { error } else { error.set_aside(why) }, took.max(tried)));
        }
        // Deadlocks and serialisation failures are over as soon as the other transaction is.
        let wait = if is_quick { shared.options.first_pause / 10 } else { pause };
        if !is_quick {
            pause = (pause * 2).min(shared.options.longest_pause);
        }
        if at != At::Framework {
            took += wait;
        }
        shared.clock.sleep(wait).await;
    }
}

/// A refusal of the database that meets one saga after another is no event's fault, and a statement that is wrong never is:
/// nothing is dead-lettered for it, and readiness says why. What is set aside for one saga after another is treated alike.
fn judge<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, work: &Work, error: StepError) -> StepError {
    let (handler, saga, now) = (Handler::of(work), work.saga_id(), shared.clock.now());
    let mut blame = shared.blame.borrow_mut();
    if let Some(why) = error.broken() {
        blame.broken(handler, why, saga, now);
        shared.health.set_waiting("handlers", Some(format!("a statement of {} is wrong: {why}", work.half)));
        return error;
    }
    if error.is_set_aside() {
        let why = Refusal::new("set aside", error.to_string());
        if blame.refused(handler, &why, saga, now) {
            let why = format!("{} fails for one saga after another: {error}", work.half);
            shared.health.set_waiting("handlers", Some(why));
        }
        return error;
    }
    let Some(why) = error.rejected() else { return error };
    if !blame.refused(handler, why, saga, now) {
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
        let own = *ran && matches!(work.stage, Stage::Whole | Stage::Finish | Stage::Exhaust);
        if own && blame.worked(Handler::of(work)) && blame.is_clear() {
            shared.health.set_waiting("handlers", None);
        }
    }
}

//! What a step ends in: success, a refusal, or a typed error.

use std::{any::Any, error::Error as StdError, fmt, time::Duration};

use crate::{
    panics::caught,
    store::{Refusal, StoreError},
};

/// The refusal type of a step that cannot refuse, and the success type of a step that publishes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {}

/// The committed end of a step. What it publishes is an event, one of several, or several at once: see
/// [`Emit`](crate::handler::Emit).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<O, R = Never> {
    /// Committed; publishes it.
    Success(O),
    /// A business "no": committed, with its own event, and never retried.
    Refused(R),
    /// Committed; publishes nothing.
    Quiet,
    /// What the handler has written is committed as a checkpoint, and the step runs again after this time, with the same
    /// event: see [`Step::again`](crate::Step::again). It is no failure and uses up no attempt. Only for actions.
    Again {
        /// The time until the next round.
        after: Duration,
    },
}

/// What a handler returns.
pub type StepResult<O, R = Never> = Result<Outcome<O, R>, StepError>;

/// How a failure is treated. The class is part of the type, never read from a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// May pass by itself and concerns only this saga: the saga is parked and retried under the step's policy.
    Transient,
    /// Never passes: the event is dead-lettered and the saga's later events wait for an operator.
    Permanent,
    /// Concerns all sagas. In a handler (the database is away) the participant waits and retries, and nothing is
    /// dead-lettered. In an effect (the outside system is away, or did not answer in time) it opens the step's circuit
    /// breaker, and the saga is parked as for a transient failure.
    Infrastructure,
}

/// Why a handler or an effect could not finish.
#[derive(Debug)]
pub struct StepError {
    class: ErrorClass,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    /// The event is only tried later: the failure is not counted against it.
    set_aside: bool,
    /// No attempt follows: the step ends as when its retries are used up.
    ends_retries: bool,
}

impl StepError {
    fn new(class: ErrorClass, message: String) -> Self {
        Self { class, message, source: None, set_aside: false, ends_retries: false }
    }

    /// A failure that may pass and concerns only this saga.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Transient, message.into())
    }

    /// A handler's panic.
    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Self::permanent(format!("the handler panicked: {text}"))
    }

    /// A failure that no retry can repair.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Permanent, message.into())
    }

    /// A failure of something that all sagas need.
    pub fn infrastructure(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Infrastructure, message.into())
    }

    /// Keeps the cause, for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same failure with a context in front of its message.
    pub(crate) fn meaning(self, what: &str) -> Self {
        Self::new(self.class, format!("{what}: {self}"))
    }

    /// The same failure of an event that other events do not wait for: the event is parked and uses up no attempt.
    pub(crate) fn set_aside(self, why: &str) -> Self {
        Self { set_aside: true, ..Self::new(ErrorClass::Transient, format!("set aside, {why}: {self}")) }
    }

    /// The step has asked for another round than its last one.
    pub(crate) fn rounds_used_up(step: &str, rounds: u32) -> Self {
        let message = format!("{step} is not done after {rounds} rounds, and declares no more");
        Self { ends_retries: true, ..Self::new(ErrorClass::Transient, message) }
    }

    /// Whether no attempt follows.
    pub(crate) fn ends_retries(&self) -> bool {
        self.ends_retries
    }

    /// Whether the event was set aside; see [`Self::set_aside`].
    pub(crate) fn is_set_aside(&self) -> bool {
        self.set_aside
    }

    /// Whether the database said so.
    pub(crate) fn is_of_store(&self) -> bool {
        self.of_store().is_some()
    }

    fn of_store(&self) -> Option<&StoreError> {
        self.source.as_deref().and_then(|e| e.downcast_ref())
    }

    /// Whether it is a deadlock or a serialisation failure, which passes as soon as the other transaction ends.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self.of_store(), Some(StoreError::Conflict(_)))
    }

    /// Whether another transaction holds a lock on a row that this one needs: it uses up no attempt.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self.of_store(), Some(StoreError::Locked(_)))
    }

    /// Whether the failure is independent of the event: another transaction holds a lock, or a statement or table is
    /// wrong. It uses up no attempt.
    pub(crate) fn uses_up_no_attempt(&self) -> bool {
        self.set_aside || matches!(self.of_store(), Some(StoreError::Locked(_) | StoreError::Broken(_)))
    }

    /// The database's message about a wrong statement or table, when that is the failure.
    pub(crate) fn broken(&self) -> Option<&str> {
        match self.of_store() {
            Some(StoreError::Broken(why)) => Some(why),
            _ => None,
        }
    }

    /// The database's refusal of the data, when that is the failure.
    pub(crate) fn rejected(&self) -> Option<&Refusal> {
        match self.of_store() {
            Some(StoreError::Rejected(refusal)) => Some(refusal),
            _ => None,
        }
    }

    /// How the failure is treated.
    pub fn class(&self) -> ErrorClass {
        self.class
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let Some(source) = self.source.as_deref() else { return Ok(()) };
        // The cause's own `Display` may panic, and this text is also shown where no panic is caught.
        match caught(|| root_of(source).to_string()) {
            Some(root) => write!(f, ": {root}"),
            None => f.write_str(": its cause cannot be shown (that panicked)"),
        }
    }
}

/// The root cause of the error chain: an operator needs it more than the wrappers.
fn root_of<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root
}

impl StdError for StepError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &dyn StdError)
    }
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        let class = match &error {
            StoreError::Unavailable(_) | StoreError::Conflict(_) | StoreError::Broken(_) => ErrorClass::Infrastructure,
            StoreError::Locked(_) => ErrorClass::Transient,
            StoreError::Rejected(_) => ErrorClass::Permanent,
        };
        Self::new(class, "the local transaction failed".to_owned()).caused_by(error)
    }
}

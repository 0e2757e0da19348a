//! What a step ends in: success, a refusal, or a typed error.

use std::{any::Any, error::Error as StdError, fmt};

use crate::{
    panics::caught,
    store::{Refusal, StoreError},
};

/// The refusal of a step that cannot refuse, and the success of one that publishes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {}

/// The committed end of a step: at most one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<O, R = Never> {
    /// Done; publishes the event.
    Success(O),
    /// A business "no": committed, with its own event, and never retried.
    Refused(R),
    /// Done, and nothing to tell.
    Quiet,
}

/// What a handler returns.
pub type StepResult<O, R = Never> = Result<Outcome<O, R>, StepError>;

/// How a failure is treated. The class is part of the type, never read from a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// May pass by itself and concerns this saga alone: the saga is parked and retried under the step's policy.
    Transient,
    /// Will never pass: the event is dead-lettered and the saga's later events wait for an operator.
    Permanent,
    /// Concerns everybody. In a handler (the database is away) the participant waits and retries, and nothing is
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
    /// It says nothing against the event, which is only tried later.
    set_aside: bool,
}

impl StepError {
    fn new(class: ErrorClass, message: String) -> Self {
        Self { class, message, source: None, set_aside: false }
    }

    /// A failure of this saga that may pass.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Transient, message.into())
    }

    /// A handler's panic.
    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Self::permanent(format!("the handler panicked: {text}"))
    }

    /// A failure that no retry mends.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Permanent, message.into())
    }

    /// A failure of what everybody needs.
    pub fn infrastructure(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Infrastructure, message.into())
    }

    /// Keeps the cause, for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same failure, and what it means.
    pub(crate) fn meaning(self, what: &str) -> Self {
        Self::new(self.class, format!("{what}: {self}"))
    }

    /// The same failure of an event that others do not wait for: it is parked, and uses up no attempt.
    pub(crate) fn set_aside(self, why: &str) -> Self {
        Self { set_aside: true, ..Self::new(ErrorClass::Transient, format!("set aside, {why}: {self}")) }
    }

    /// Whether it was set aside, see [`Self::set_aside`].
    pub(crate) fn is_set_aside(&self) -> bool {
        self.set_aside
    }

    fn of_store(&self) -> Option<&StoreError> {
        self.source.as_deref().and_then(|e| e.downcast_ref())
    }

    /// Whether it is a deadlock or the like, which is over as soon as the other transaction is.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self.of_store(), Some(StoreError::Conflict(_)))
    }

    /// Whether somebody holds a lock on a row that the transaction needs: it uses up no attempt.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self.of_store(), Some(StoreError::Locked(_)))
    }

    /// Whether the database could not do it whatever the event says: somebody holds a lock, or a table is not what it should
    /// be. It uses up no attempt.
    pub(crate) fn is_nobodys_fault(&self) -> bool {
        self.set_aside || matches!(self.of_store(), Some(StoreError::Locked(_) | StoreError::Broken(_)))
    }

    /// What is wrong with a statement or its table, when that is the failure.
    pub(crate) fn broken(&self) -> Option<&str> {
        match self.of_store() {
            Some(StoreError::Broken(why)) => Some(why),
            _ => None,
        }
    }

    /// What the database refused to write, when that is the failure.
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
        // The cause is of whoever wrote the handler, and is shown where nothing else is around it.
        match caught(|| root_of(source).to_string()) {
            Some(root) => write!(f, ": {root}"),
            None => f.write_str(": its cause cannot be shown (that panicked)"),
        }
    }
}

/// The root cause, not the chain of wrappers, is what an operator needs to read.
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

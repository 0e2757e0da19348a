//! What a transaction came to: what became of each of its events, or why it did not commit.

use jiff::Timestamp;

use crate::runtime::{
    in_flight::{Keys, TakenFrom},
    stage::Happened,
    transaction::due::Due,
};
use crate::{outcome::StepError, step::Erased, store::StoreError};

/// What became of an event in a transaction that committed.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) happened: Happened,
    /// What its effect is to be called with.
    pub(crate) keys: Keys,
    /// Where it is found from now on.
    pub(crate) origin: TakenFrom,
    /// For the part of a join that completes it: all parts together.
    pub(crate) joined: Option<Erased>,
    /// What its effect was prepared with.
    pub(crate) prepared: Option<Erased>,
}

/// A transaction that committed.
pub(crate) struct Transaction {
    /// One for each event, in their order.
    pub(crate) done: Vec<Done>,
    /// For each, whether its handler ran: what was skipped, queued or null says nothing for its handler.
    pub(crate) ran: Vec<bool>,
    /// When the first of what is written here is due.
    pub(crate) due: Due<Timestamp>,
}

/// Why a transaction did not commit, and how far it had come.
pub(crate) struct FailedAttempt {
    pub(crate) error: StepError,
    pub(crate) at: FailedIn,
    /// The events, by their place, that the handler has named as those that fail.
    pub(crate) named: Vec<(usize, StepError)>,
}

/// Where a transaction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailedIn {
    /// In what the framework alone does.
    Framework,
    /// While a handler ran.
    Handler,
    /// At the commit of what handlers have written.
    Commit,
}

impl From<StoreError> for FailedAttempt {
    fn from(error: StoreError) -> Self {
        Self { error: error.into(), at: FailedIn::Framework, named: Vec::new() }
    }
}

impl From<StepError> for FailedAttempt {
    fn from(error: StepError) -> Self {
        Self { error, at: FailedIn::Handler, named: Vec::new() }
    }
}

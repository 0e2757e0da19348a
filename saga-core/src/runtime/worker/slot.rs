//! The transaction slot: what it is used for, and in which turns.

use crate::runtime::{deadlines::fire::Fired, transaction::batch::Batch};
use crate::store::{ParkedEvent, StoreError};

/// What the transaction slot was used for.
pub(crate) enum Slot {
    Batch(Batch),
    Parked(Result<Vec<ParkedEvent>, StoreError>),
    Candidates(Result<Vec<ParkedEvent>, StoreError>),
    Timers(Fired),
    Labelled(Result<(), StoreError>),
}

/// What the slot is used for in turns, so that none of it keeps another from its turn, however much of it there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Parked events that are due are claimed.
    Claim,
    /// So are some of the steps whose breaker waits for its trial.
    Try,
    /// Deadlines that are due are fired.
    Fire,
    /// Events that are ready are handled.
    Batch,
}

impl Turn {
    /// All, each once, in the order in which they follow this one.
    pub(crate) fn following(self) -> [Self; 4] {
        match self {
            Self::Claim => [Self::Try, Self::Fire, Self::Batch, Self::Claim],
            Self::Try => [Self::Fire, Self::Batch, Self::Claim, Self::Try],
            Self::Fire => [Self::Batch, Self::Claim, Self::Try, Self::Fire],
            Self::Batch => [Self::Claim, Self::Try, Self::Fire, Self::Batch],
        }
    }
}

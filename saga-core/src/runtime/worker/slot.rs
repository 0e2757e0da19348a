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

/// The uses of the slot. They take turns, so that no use starves another, however much there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Parked events that are due are claimed.
    Claim,
    /// Some parked events of steps whose breaker waits for its trial call are claimed.
    Try,
    /// Deadlines that are due are fired.
    Fire,
    /// Events that are ready are handled.
    Batch,
}

impl Turn {
    /// The order in which the next use is chosen.
    pub(crate) fn following(self) -> [Self; 4] {
        match self {
            Self::Claim => [Self::Try, Self::Fire, Self::Batch, Self::Claim],
            Self::Try => [Self::Fire, Self::Batch, Self::Claim, Self::Try],
            Self::Fire => [Self::Batch, Self::Claim, Self::Try, Self::Fire],
            Self::Batch => [Self::Claim, Self::Try, Self::Fire, Self::Batch],
        }
    }
}

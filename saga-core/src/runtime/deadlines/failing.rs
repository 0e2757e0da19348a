//! Deadlines that cannot be fired although the database answers.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::runtime::transaction::handler_failures::LONGEST_PAUSE;
use crate::{clock::after, event::SagaId, store::DueTimer};

/// Deadlines that cannot be fired although the database answers, and when the next attempt of each is expected.
#[derive(Default)]
pub(crate) struct FailingDeadlines(HashMap<SagaId, Timestamp>);

impl FailingDeadlines {
    /// Notes a failure. Returns whether the deadline has failed before, since a connection may be lost once.
    pub(crate) fn failed(&mut self, timer: &DueTimer, until: Timestamp) -> bool {
        self.0.insert(timer.saga_id, until).is_some()
    }

    /// Removes fired deadlines, and those whose next attempt is overdue (disarmed, or taken by another process). Returns whether
    /// the last one is gone with that.
    pub(crate) fn is_over(&mut self, fired: &[DueTimer], now: Timestamp) -> bool {
        let was_empty = self.0.is_empty();
        // The clock may have been set back.
        let longest = after(now, 2 * LONGEST_PAUSE);
        let is_expected = |until: &Timestamp| *until > now && *until <= longest;
        self.0.retain(|saga, until| is_expected(until) && fired.iter().all(|timer| timer.saga_id != *saga));
        !was_empty && self.0.is_empty()
    }
}

//! Compensations that failed for good and without which their sagas went on.

use jiff::Timestamp;

use crate::{event::SagaId, record::Record};

/// A compensation that failed for good. It is stored, so that what its step did and nobody has compensated is found later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCompensation {
    /// The saga.
    pub saga_id: SagaId,
    /// The step that is not compensated.
    pub step: &'static str,
    /// The id of the event that started the compensation, for an operator.
    pub event_id: String,
    /// The event. For a compensation that is a join, the one that came last.
    pub record: Record,
    /// The attempts made.
    pub attempts: u32,
    /// When it failed for the first time.
    pub failed_at: Timestamp,
    /// The last error, for an operator; capped in length.
    pub reason: String,
}

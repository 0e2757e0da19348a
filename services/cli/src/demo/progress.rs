//! The demo's progress: how many orders have ended, and what the demo waits for.

use std::time::Instant;

use jiff::Timestamp;
use saga_core::graph::Ending;

use super::{database_state::ParkedSagas, topic_log::TopicObserver};
use saga_tools::text::{BOLD, DIM, GOOD, Line, WARN, count, duration};

/// Counts the orders that have ended, as observed on the topics.
#[derive(Clone, Copy)]
pub(crate) struct OrderProgress<'a> {
    pub(crate) observer: &'a TopicObserver,
    /// The number of orders to be placed.
    pub(crate) all: usize,
    pub(crate) begun: Instant,
}

/// The progress at one time.
pub(crate) struct ProgressSnapshot {
    pub(crate) ended: usize,
    pub(crate) all: usize,
    pub(crate) counts: Line,
    pub(crate) activity: Line,
}

impl OrderProgress<'_> {
    /// The progress now, with the current activity.
    pub(crate) fn during(&self, activity: String) -> ProgressSnapshot {
        let (confirmed, cancelled) = {
            let log = self.observer.log();
            (log.ended(Ending::Completed), log.ended(Ending::Compensated))
        };
        let ended = confirmed + cancelled;
        let counts = Line::new()
            .add(BOLD, format!("{ended} of {} ended", self.all))
            .add(GOOD, format!("  {confirmed} confirmed"))
            .add(WARN, format!("  {cancelled} cancelled"));
        let time = duration(self.begun.elapsed().as_secs_f64() * 1000.0);
        ProgressSnapshot { ended, all: self.all, counts, activity: Line::new().add(DIM, format!("{time}  {activity}")) }
    }
}

/// Describes the sagas that payment has parked.
pub(crate) fn waiting(parked: ParkedSagas) -> String {
    let sagas = count(usize::try_from(parked.sagas).unwrap_or_default(), "saga");
    let in_micros = (parked.due - Timestamp::now().as_microsecond()).max(0);
    #[allow(clippy::cast_precision_loss, reason = "seconds, not centuries")]
    let next = duration(in_micros as f64 / 1000.0);
    format!("payment has parked {sagas}: tried {} times, next try in {next}", parked.attempts)
}

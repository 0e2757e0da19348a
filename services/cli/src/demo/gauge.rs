//! How far the orders are, in two lines.

use std::time::Instant;

use jiff::Timestamp;
use saga_core::graph::Ending as End;

use super::{facts::Parked, journal::Watcher};
use saga_tools::text::{BOLD, DIM, GOOD, Line, WARN, count, duration};

const BAR: usize = 20;

/// Looks at what is read from the topics.
#[derive(Clone, Copy)]
pub(crate) struct Gauge<'a> {
    pub(crate) watcher: &'a Watcher,
    /// How many orders there will be.
    pub(crate) all: usize,
    pub(crate) begun: Instant,
    /// Whether the lines move; only then a bar makes sense.
    pub(crate) moves: bool,
}

impl Gauge<'_> {
    /// What has ended, and what is going on.
    pub(crate) fn lines(&self, what: String) -> [Line; 2] {
        let (confirmed, cancelled) = {
            let journal = self.watcher.journal();
            (journal.ended(End::Completed), journal.ended(End::Compensated))
        };
        let ended = confirmed + cancelled;
        let mut numbers = Line::new();
        if self.moves {
            let filled = (ended * BAR).checked_div(self.all).unwrap_or_default().min(BAR);
            numbers = numbers.add(GOOD, "━".repeat(filled)).add(DIM, "━".repeat(BAR - filled)).plain("  ");
        }
        let numbers = numbers
            .add(BOLD, format!("{ended} of {} ended", self.all))
            .add(GOOD, format!("  {confirmed} confirmed"))
            .add(WARN, format!("  {cancelled} cancelled"));
        let time = duration(self.begun.elapsed().as_secs_f64() * 1000.0);
        [numbers, Line::new().add(DIM, format!("{time}  {what}"))]
    }
}

/// What payment waits for.
pub(crate) fn waiting(parked: Parked) -> String {
    let sagas = count(usize::try_from(parked.sagas).unwrap_or_default(), "saga");
    let in_micros = (parked.due - Timestamp::now().as_microsecond()).max(0);
    #[allow(clippy::cast_precision_loss, reason = "seconds, not centuries")]
    let next = duration(in_micros as f64 / 1000.0);
    format!("payment has parked {sagas}: tried {} times, next try in {next}", parked.attempts)
}

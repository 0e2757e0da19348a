//! Rates per second over the last interval and over the last minute.

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;

use super::saga_table::Totals;

const MINUTE: Duration = Duration::from_secs(60);

/// Rates per second.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize)]
pub(crate) struct Rate {
    /// The length of the measured period.
    pub(crate) seconds: f64,
    pub(crate) started: f64,
    pub(crate) finished: f64,
    pub(crate) dead_letters: f64,
}

/// Totals over time, for the last minute.
#[derive(Default)]
pub(crate) struct Rates(VecDeque<(Duration, Totals)>);

impl Rates {
    /// Records the totals at this time since the start.
    pub(crate) fn record(&mut self, at: Duration, totals: Totals) {
        self.0.push_back((at, totals));
        // Keep the newest entry that is at least a minute old: the minute is measured from it.
        while self.0.get(1).is_some_and(|(next, _)| at.saturating_sub(*next) >= MINUTE) {
            self.0.pop_front();
        }
    }

    /// The rate since the previous entry.
    pub(crate) fn interval(&self) -> Rate {
        self.0.len().checked_sub(2).map_or_else(Rate::default, |before| self.since(before))
    }

    /// The rate over the last minute, or over a shorter recorded time.
    pub(crate) fn minute(&self) -> Rate {
        self.since(0)
    }

    fn since(&self, place: usize) -> Rate {
        let (Some((from, before)), Some((to, now))) = (self.0.get(place), self.0.back()) else {
            return Rate::default();
        };
        let seconds = to.saturating_sub(*from).as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let per_second = |now: u64, before: u64| if seconds > 0.0 { (now - before) as f64 / seconds } else { 0.0 };
        Rate {
            seconds,
            started: per_second(now.started, before.started),
            finished: per_second(now.finished, before.finished),
            dead_letters: per_second(now.dead_letters, before.dead_letters),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minute_is_the_last_one() {
        let mut rates = Rates::default();
        for second in 0..=100 {
            let started = if second <= 40 { 0 } else { (second - 40) * 3 };
            rates.record(Duration::from_secs(second), Totals { started, ..Totals::default() });
        }
        assert_eq!((rates.interval().started, rates.interval().seconds), (3.0, 1.0));
        assert_eq!((rates.minute().started, rates.minute().seconds), (3.0, 60.0));
        assert!(rates.0.len() <= 62);
    }

    #[test]
    fn before_the_second_look_nothing_is_known() {
        let mut rates = Rates::default();
        assert_eq!((rates.interval(), rates.minute()), (Rate::default(), Rate::default()));
        rates.record(Duration::ZERO, Totals { started: 7, ..Totals::default() });
        assert_eq!(rates.minute(), Rate::default());
    }
}

//! A circuit breaker: when an outside system fails for everybody, stop calling it for a while.

use std::collections::VecDeque;

use jiff::Timestamp;

use crate::{clock::after, step::BreakerPolicy};

/// The state of one step's breaker. Pure: the time comes in as an argument.
#[derive(Debug)]
pub(crate) struct Breaker {
    policy: BreakerPolicy,
    recent: VecDeque<bool>,
    failures: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Timestamp,
    },
    /// One trial call decides; it counts as lost when nothing is heard of it until then.
    Trial {
        until: Timestamp,
    },
}

impl Breaker {
    pub(crate) fn new(policy: BreakerPolicy) -> Self {
        Self { policy, recent: VecDeque::new(), failures: 0, state: State::Closed }
    }

    /// Whether a call may be made now.
    pub(crate) fn admits(&mut self, now: Timestamp) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } | State::Trial { until } if now >= until => {
                self.state = State::Trial { until: after(now, self.policy.open_for * 10) };
                true
            }
            State::Open { .. } | State::Trial { .. } => false,
        }
    }

    /// Tells how a call went.
    pub(crate) fn record(&mut self, ok: bool, now: Timestamp) {
        match self.state {
            State::Trial { .. } if ok => {
                self.recent.clear();
                self.failures = 0;
                self.state = State::Closed;
            }
            State::Trial { .. } => self.state = State::Open { until: after(now, self.policy.open_for) },
            State::Open { .. } => {}
            State::Closed => {
                self.recent.push_back(ok);
                self.failures += usize::from(!ok);
                if self.recent.len() > self.policy.window {
                    let forgotten_failed = self.recent.pop_front() == Some(false);
                    self.failures -= usize::from(forgotten_failed);
                }
                let full = self.recent.len() >= self.policy.window;
                #[allow(clippy::cast_precision_loss, reason = "a window is far below 2^52 calls")]
                let share = self.failures as f64 / self.recent.len() as f64;
                if full && share >= self.policy.failure_share {
                    self.state = State::Open { until: after(now, self.policy.open_for) };
                }
            }
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state != State::Closed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn breaker() -> Breaker {
        Breaker::new(BreakerPolicy { failure_share: 0.5, window: 4, open_for: Duration::from_millis(100) })
    }

    #[test]
    fn it_opens_when_the_share_of_failures_in_a_full_window_is_reached() {
        let mut breaker = breaker();
        for ok in [false, false, false] {
            breaker.record(ok, at(0));
            assert!(breaker.admits(at(0)), "the window is not full yet");
        }
        breaker.record(true, at(0));
        assert!(!breaker.admits(at(99)));
    }

    #[test]
    fn one_trial_call_decides_whether_it_closes() {
        let mut breaker = breaker();
        (0..4).for_each(|_| breaker.record(false, at(0)));
        assert!(breaker.admits(at(100)));
        assert!(!breaker.admits(at(101)), "only one trial at a time");
        breaker.record(false, at(110));
        assert!(!breaker.admits(at(209)));
        assert!(breaker.admits(at(210)));
        breaker.record(true, at(220));
        assert!(breaker.admits(at(220)) && breaker.admits(at(220)) && !breaker.is_open());
    }

    #[test]
    fn a_trial_of_which_nothing_is_heard_is_repeated() {
        let mut breaker = breaker();
        (0..4).for_each(|_| breaker.record(false, at(0)));
        assert!(breaker.admits(at(100)));
        assert!(!breaker.admits(at(1099)));
        assert!(breaker.admits(at(1100)));
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut breaker = breaker();
        for _ in 0..20 {
            for ok in [true, true, true, false] {
                breaker.record(ok, at(0));
                assert!(breaker.admits(at(0)));
            }
        }
    }
}

//! A circuit breaker: when an outside system fails for all sagas, it is not called for a while.

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
    /// Counts the changes of state. The result of a call that began before a change does not count after it.
    generation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Timestamp,
    },
    /// One trial call decides. It counts as lost when it has not ended by then.
    Trial {
        until: Timestamp,
    },
}

/// Permission for a call. The result counts as long as the breaker is in the state in which it gave the permission.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass(u64);

impl Breaker {
    pub(crate) fn new(policy: BreakerPolicy) -> Self {
        Self { policy, recent: VecDeque::new(), failures: 0, state: State::Closed, generation: 0 }
    }

    /// Admits a call, or returns when to ask again.
    pub(crate) fn admits(&mut self, now: Timestamp) -> Result<Pass, Timestamp> {
        match self.closed_until(now) {
            Some(until) => Err(until),
            None => {
                if self.state != State::Closed {
                    self.turn(State::Trial { until: after(now, self.policy.open_for * 10) });
                }
                Ok(Pass(self.generation))
            }
        }
    }

    /// When to ask again; none when a call would be admitted now.
    pub(crate) fn closed_until(&self, now: Timestamp) -> Option<Timestamp> {
        let pause = after(now, self.policy.open_for);
        // It is beyond the longest pause only when the clock was set back.
        let (until, longest) = match self.state {
            State::Closed => return None,
            State::Open { until } => (until, pause),
            State::Trial { until } => (until, after(now, self.policy.open_for * 10)),
        };
        (now < until && until <= longest).then_some(until.min(pause))
    }

    /// Whether a call that was admitted earlier may still be made.
    pub(crate) fn still_admits(&self, pass: Pass) -> bool {
        pass.0 == self.generation
    }

    /// Gives back a permission that was not used. When it was for the trial, the next call is the trial.
    pub(crate) fn unused(&mut self, pass: Pass, now: Timestamp) {
        if self.still_admits(pass) && matches!(self.state, State::Trial { .. }) {
            self.turn(State::Open { until: now });
        }
    }

    /// Records how a call ended.
    pub(crate) fn record(&mut self, pass: Pass, ok: bool, now: Timestamp) {
        if !self.still_admits(pass) {
            return;
        }
        match self.state {
            State::Trial { .. } if ok => {
                self.recent.clear();
                self.failures = 0;
                self.turn(State::Closed);
            }
            State::Trial { .. } => self.turn(State::Open { until: after(now, self.policy.open_for) }),
            // No call is admitted in this state, so no permission is of this generation.
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
                    self.turn(State::Open { until: after(now, self.policy.open_for) });
                }
            }
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
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

    /// One that has been open since the beginning.
    fn opened() -> Breaker {
        let mut breaker = breaker();
        (0..4).for_each(|_| call(&mut breaker, false, 0));
        assert!(breaker.is_open());
        breaker
    }

    /// A call that is over at once.
    fn call(breaker: &mut Breaker, ok: bool, ms: i64) {
        let pass = breaker.admits(at(ms)).unwrap();
        breaker.record(pass, ok, at(ms));
    }

    #[test]
    fn it_opens_when_the_share_of_failures_in_a_full_window_is_reached() {
        let mut breaker = breaker();
        for _ in 0..3 {
            call(&mut breaker, false, 0);
            assert!(breaker.admits(at(0)).is_ok(), "the window is not full yet");
        }
        call(&mut breaker, true, 0);
        assert_eq!(breaker.admits(at(99)), Err(at(100)), "and says when to ask again");
    }

    #[test]
    fn one_trial_call_decides_whether_it_closes() {
        let mut breaker = opened();
        let trial = breaker.admits(at(100)).unwrap();
        assert_eq!(breaker.admits(at(101)), Err(at(201)), "only one trial at a time");
        breaker.record(trial, false, at(110));
        assert_eq!(breaker.admits(at(209)), Err(at(210)));
        call(&mut breaker, true, 210);
        assert!(breaker.admits(at(220)).is_ok() && breaker.admits(at(220)).is_ok() && !breaker.is_open());
    }

    #[test]
    fn calls_that_began_before_it_opened_decide_no_trial() {
        for ok in [true, false] {
            let mut breaker = breaker();
            let early: Vec<Pass> = (0..3).map(|_| breaker.admits(at(0)).unwrap()).collect();
            (0..4).for_each(|_| call(&mut breaker, false, 0));
            let trial = breaker.admits(at(100)).unwrap();
            early.into_iter().for_each(|pass| breaker.record(pass, ok, at(105)));
            assert!(breaker.admits(at(106)).is_err() && breaker.is_open(), "{ok}: it still waits for its trial");
            breaker.record(trial, !ok, at(110));
            assert_eq!(breaker.is_open(), ok, "the trial alone decided");
        }
    }

    #[test]
    fn calls_that_began_before_it_opened_do_not_count_after_it_has_closed() {
        let mut breaker = breaker();
        let early: Vec<Pass> = (0..4).map(|_| breaker.admits(at(0)).unwrap()).collect();
        (0..4).for_each(|_| call(&mut breaker, false, 0));
        call(&mut breaker, true, 100);
        early.into_iter().for_each(|pass| breaker.record(pass, false, at(110)));
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_trial_that_was_given_up_on_does_not_decide_the_next_one() {
        let mut breaker = opened();
        let lost = breaker.admits(at(100)).unwrap();
        assert!(breaker.admits(at(1099)).is_err());
        let next = breaker.admits(at(1100)).unwrap();
        breaker.record(lost, true, at(1101));
        assert!(breaker.is_open());
        breaker.record(next, true, at(1102));
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_trial_that_is_not_made_is_the_next_ones() {
        let mut breaker = opened();
        let trial = breaker.admits(at(100)).unwrap();
        breaker.unused(trial, at(105));
        let next = breaker.admits(at(105)).unwrap();
        breaker.unused(trial, at(106));
        assert!(!breaker.still_admits(trial) && breaker.still_admits(next), "and is given back once");
        breaker.record(next, true, at(110));
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_no_breaker_open() {
        let mut breaker = breaker();
        (0..4).for_each(|_| call(&mut breaker, false, 3_600_000));
        assert!(breaker.admits(at(3_600_050)).is_err());
        let trial = breaker.admits(at(0)).unwrap();
        assert!(breaker.admits(at(50)).is_err(), "only one trial");
        breaker.record(trial, true, at(60));
        assert!(!breaker.is_open());
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut breaker = breaker();
        for _ in 0..20 {
            for ok in [true, true, true, false] {
                call(&mut breaker, ok, 0);
                assert!(breaker.admits(at(0)).is_ok());
            }
        }
    }
}

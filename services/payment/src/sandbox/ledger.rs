//! The rules of the sandbox gateway: how a call changes a charge. Pure functions.

use std::str::FromStr;

use crate::gateway::{Decision, GatewayError};

/// How often `tok_flaky` fails before it charges.
const FLAKY_FAILURES: i64 = 2;

/// The state of a charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum State {
    /// Called, perhaps, but never decided.
    #[default]
    Open,
    Captured,
    Declined,
    /// Refunded, before or after it was captured: it never takes anything from now on.
    Void,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Captured => "captured",
            Self::Declined => "declined",
            Self::Void => "void",
        }
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Open, Self::Captured, Self::Declined, Self::Void]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("{text} is not the state of a charge"))
    }
}

/// The ledger's entry for one idempotency key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Entry {
    /// The number of charge calls under this key, failed ones included. Refunds do not count.
    pub(super) calls: i64,
    pub(super) state: State,
    pub(super) captured_cents: i64,
    pub(super) refunded_cents: i64,
}

impl Entry {
    pub(super) fn charge(&mut self, payment_method: &str, amount_cents: i64) -> Result<Decision, GatewayError> {
        self.calls += 1;
        if self.state == State::Open {
            match payment_method {
                "tok_declined" => self.state = State::Declined,
                "tok_timeout" => return Err(GatewayError::Transient("the card's bank does not answer".to_owned())),
                "tok_flaky" if self.calls <= FLAKY_FAILURES => {
                    return Err(GatewayError::Transient("the card's bank dropped the call".to_owned()));
                }
                _ => {
                    self.state = State::Captured;
                    self.captured_cents = amount_cents;
                }
            }
        }
        // A refunded charge is declined, although the first result was captured: with that result, the goods would ship
        // unpaid.
        Ok(if self.state == State::Captured { Decision::Captured } else { Decision::Declined })
    }

    pub(super) fn refund(&mut self) {
        match self.state {
            State::Open | State::Captured => {
                self.state = State::Void;
                self.refunded_cents = self.captured_cents;
            }
            State::Declined | State::Void => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_charged_once_however_often_it_is_asked() {
        let mut entry = Entry::default();
        assert_eq!(entry.charge("tok_visa", 100), Ok(Decision::Captured));
        assert_eq!(entry.charge("tok_visa", 100), Ok(Decision::Captured));
        assert_eq!((entry.calls, entry.captured_cents, entry.refunded_cents), (2, 100, 0));
    }

    #[test]
    fn a_declined_card_stays_declined() {
        let mut entry = Entry::default();
        assert_eq!(entry.charge("tok_declined", 100), Ok(Decision::Declined));
        assert_eq!(entry.charge("tok_visa", 100), Ok(Decision::Declined));
        assert_eq!(entry.captured_cents, 0);
    }

    #[test]
    fn a_flaky_card_fails_twice_and_then_charges() {
        let mut entry = Entry::default();
        let answers: Vec<_> = (0..3).map(|_| entry.charge("tok_flaky", 100).is_ok()).collect();
        assert_eq!(answers, [false, false, true]);
        assert_eq!((entry.calls, entry.captured_cents), (3, 100));
    }

    #[test]
    fn a_bank_that_never_answers_never_charges() {
        let mut entry = Entry::default();
        assert!((0..20).all(|_| entry.charge("tok_timeout", 100).is_err()));
        assert_eq!((entry.calls, entry.state, entry.captured_cents), (20, State::Open, 0));
    }

    #[test]
    fn a_refund_returns_the_amount_once() {
        let mut entry = Entry::default();
        entry.charge("tok_visa", 100).unwrap();
        entry.refund();
        entry.refund();
        assert_eq!((entry.captured_cents, entry.refunded_cents), (100, 100));
        assert_eq!((entry.captured_cents, entry.refunded_cents), (100, 100));
    }

    #[test]
    fn a_charge_that_comes_after_its_refund_takes_nothing() {
        let mut entry = Entry::default();
        entry.refund();
        assert_eq!(entry.charge("tok_visa", 100), Ok(Decision::Declined));
        assert_eq!((entry.captured_cents, entry.refunded_cents), (0, 0));
    }

    #[test]
    fn a_refunded_charge_is_not_reported_as_captured() {
        for amount_cents in [0, 100] {
            let mut entry = Entry::default();
            entry.charge("tok_visa", amount_cents).unwrap();
            entry.refund();
            assert_eq!(entry.charge("tok_visa", amount_cents), Ok(Decision::Declined));
            assert_eq!((entry.captured_cents, entry.refunded_cents), (amount_cents, amount_cents));
        }
    }

    #[test]
    fn every_state_is_read_back_as_it_was_written() {
        for state in [State::Open, State::Captured, State::Declined, State::Void] {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
    }
}

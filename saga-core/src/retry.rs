//! Retry policies: when a parked saga is tried again, and when its retries are used up.

use std::{fmt, sync::Arc, time::Duration};

use crate::panics::caught;

/// Decides the delay before the next attempt. Pure: time and randomness come in as arguments.
#[derive(Clone)]
pub struct RetryPolicy(Kind);

/// The attempts after which a custom policy is no longer searched for its end.
const MANY: u32 = 1000;

/// The delay after the n-th failed attempt (from 1), or none when retries are used up.
type Custom = dyn Fn(u32) -> Option<Duration> + Send + Sync;

#[derive(Clone)]
enum Kind {
    None,
    Fixed { delay: Duration, attempts: u32 },
    Linear { step: Duration, max: Duration, attempts: u32 },
    Exponential { initial: Duration, max: Duration, attempts: u32 },
    Custom(Arc<Custom>),
}

impl RetryPolicy {
    /// One attempt, without a retry.
    pub const NONE: Self = Self(Kind::None);

    /// `attempts` in all (the first included), with the same delay between them.
    pub const fn fixed(delay: Duration, attempts: u32) -> Self {
        Self(Kind::Fixed { delay, attempts })
    }

    /// `attempts` in all; the n-th delay is n times `step`, at most `max`.
    pub const fn linear(step: Duration, max: Duration, attempts: u32) -> Self {
        Self(Kind::Linear { step, max, attempts })
    }

    /// `attempts` in all; each delay is twice the one before, at most `max`. A random part of up to one half is
    /// subtracted, so that sagas that failed together are retried at different times.
    pub const fn exponential(initial: Duration, max: Duration, attempts: u32) -> Self {
        Self(Kind::Exponential { initial, max, attempts })
    }

    /// As often as it takes, for a step that is owed, such as one after the [pivot](crate::Step::pivot): the pauses are those of
    /// [`RetryPolicy::exponential`]. A permanent failure is dead-lettered nevertheless, since no retry can repair it.
    ///
    /// ```
    /// # use std::time::Duration; use saga_core::{*, handler::Cx, testing::MemoryStore}; use uuid::Uuid;
    /// # use schemars::JsonSchema; use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    /// # #[event(name = "trip.paid", topic = "trip.events", saga = "trip_id")]
    /// # struct TripPaid { trip_id: Uuid }
    /// # async fn ticket(_: &mut Cx<'_, MemoryStore>, _: TripPaid) -> StepResult<Never> { Ok(Outcome::Quiet) }
    /// let retry = RetryPolicy::until_it_succeeds(Duration::from_millis(100), Duration::from_secs(30));
    /// let flight = Participant::named("flight").step(Step::new("ticket", ticket).retry(retry)).declaration();
    /// assert!(flight.steps[0].until_it_succeeds);
    /// ```
    pub const fn until_it_succeeds(initial: Duration, max: Duration) -> Self {
        Self::exponential(initial, max, u32::MAX)
    }

    /// A custom policy: the delay after the n-th failed attempt (from 1), or none to stop.
    pub fn custom(delay: impl Fn(u32) -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self(Kind::Custom(Arc::new(delay)))
    }

    /// The delay after `failed` attempts (from 1), or none when they are used up. `random` is in `0.0..1.0`.
    pub fn delay(&self, failed: u32, random: f64) -> Option<Duration> {
        let within = |attempts: u32| failed < attempts;
        match &self.0 {
            Kind::None => None,
            Kind::Fixed { delay, attempts } => within(*attempts).then_some(*delay),
            Kind::Linear { step, max, attempts } => within(*attempts).then(|| step.saturating_mul(failed).min(*max)),
            Kind::Exponential { initial, max, attempts } => within(*attempts).then(|| {
                let doublings = failed.saturating_sub(1).min(31);
                let full = initial.saturating_mul(1 << doublings).min(*max);
                full.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
            }),
            // A policy that panics allows no further attempt.
            Kind::Custom(delay) => caught(|| delay(failed)).flatten(),
        }
    }

    /// Whether its attempts are never used up. A custom policy is believed to end unless it goes on for very long.
    pub(crate) fn is_unlimited(&self) -> bool {
        match &self.0 {
            Kind::Custom(_) => self.used_up_after() == MANY && self.delay(MANY, 0.0).is_some(),
            _ => self.used_up_after() == u32::MAX,
        }
    }

    /// The number of failed attempts after which there is no further one. For a custom policy that never ends, a very
    /// large number.
    pub(crate) fn used_up_after(&self) -> u32 {
        match &self.0 {
            Kind::None => 1,
            Kind::Fixed { attempts, .. } | Kind::Linear { attempts, .. } | Kind::Exponential { attempts, .. } => {
                (*attempts).max(1)
            }
            Kind::Custom(_) => (1..MANY).find(|failed| self.delay(*failed, 0.0).is_none()).unwrap_or(MANY),
        }
    }
}

impl Default for RetryPolicy {
    /// From 100 ms to 5 s, ten attempts: about 20 s in all, and under a minute with effects that time out.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100), Duration::from_secs(5), 10)
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::None => write!(f, "no retry"),
            Kind::Fixed { delay, attempts } => write!(f, "{attempts} attempts, {delay:?} apart"),
            Kind::Linear { step, max, attempts } => write!(f, "{attempts} attempts, linear {step:?} up to {max:?}"),
            Kind::Exponential { initial, max, attempts } => {
                write!(f, "{attempts} attempts, exponential {initial:?} up to {max:?}")
            }
            Kind::Custom(_) => write!(f, "custom"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(policy: &RetryPolicy, random: f64) -> Vec<u128> {
        (1..).map_while(|n| policy.delay(n, random)).map(|d| d.as_millis()).collect()
    }

    #[test]
    fn no_retry_ends_after_the_first_attempt() {
        assert!(delays(&RetryPolicy::NONE, 0.0).is_empty());
    }

    #[test]
    fn a_policy_of_n_attempts_delays_n_minus_one_times() {
        let ms = Duration::from_millis;
        assert_eq!(delays(&RetryPolicy::fixed(ms(7), 4), 0.9), [7, 7, 7]);
        assert_eq!(delays(&RetryPolicy::linear(ms(10), ms(25), 5), 0.9), [10, 20, 25, 25]);
        assert_eq!(delays(&RetryPolicy::exponential(ms(100), ms(500), 6), 0.0), [100, 200, 400, 500, 500]);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        let policy = RetryPolicy::exponential(Duration::from_millis(100), Duration::from_secs(1), 3);
        assert_eq!(delays(&policy, 1.0), [50, 100]);
    }

    #[test]
    fn the_default_is_ten_attempts_within_a_minute() {
        let all = delays(&RetryPolicy::default(), 0.0);
        assert_eq!(all.len(), 9);
        assert!(all.iter().sum::<u128>() < 25_000);
    }

    #[test]
    fn a_huge_attempt_number_does_not_overflow() {
        let policy = RetryPolicy::exponential(Duration::from_secs(1), Duration::from_secs(9), u32::MAX);
        assert_eq!(policy.delay(4_000_000_000, 0.0), Some(Duration::from_secs(9)));
    }

    #[test]
    fn a_policy_is_used_up_after_the_first_failure_that_has_no_delay() {
        let ms = Duration::from_millis;
        let one_less = RetryPolicy::custom(move |failed| (failed < 5).then_some(ms(1)));
        for (policy, expected) in [(RetryPolicy::NONE, 1), (RetryPolicy::fixed(ms(1), 5), 5), (one_less, 5)] {
            assert_eq!(policy.used_up_after(), expected, "{policy:?}");
            assert_eq!(u32::try_from(delays(&policy, 0.0).len()).unwrap() + 1, expected, "{policy:?}");
        }
        assert_eq!(RetryPolicy::custom(move |_| Some(ms(1))).used_up_after(), MANY);
    }

    #[test]
    fn only_a_policy_that_never_ends_is_unlimited() {
        let ms = Duration::from_millis;
        let unlimited = [RetryPolicy::until_it_succeeds(ms(1), ms(9)), RetryPolicy::custom(move |_| Some(ms(1)))];
        assert!(unlimited.iter().all(RetryPolicy::is_unlimited));
        assert_eq!(unlimited[0].delay(4_000_000_000, 0.0), Some(ms(9)));
        let ends = RetryPolicy::custom(move |failed| (failed < MANY).then_some(ms(1)));
        for limited in [RetryPolicy::NONE, RetryPolicy::default(), RetryPolicy::fixed(ms(1), 5), ends] {
            assert!(!limited.is_unlimited(), "{limited:?}");
        }
    }

    #[test]
    fn a_custom_policy_decides_alone() {
        let policy = RetryPolicy::custom(|failed| (failed < 3).then_some(Duration::from_millis(1)));
        assert_eq!(delays(&policy, 0.5), [1, 1]);
    }
}

//! Whether the poll thread still turns. A call of librdkafka that never returns looks like a topic without records.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Longer than all that the thread waits for in one round, each with a time limit: a rebalance, questions to the broker.
const HANGS_AFTER: Duration = Duration::from_secs(60);
/// After this time the process must end: its partitions go to another one, or to itself when it starts again.
const DEAD_AFTER: Duration = Duration::from_secs(300);

/// How the poll thread is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turns {
    Well,
    Hangs,
    Dead,
}

/// When the poll thread began its last round.
pub(super) struct Watch(Mutex<Instant>);

impl Default for Watch {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Watch {
    /// The poll thread begins a round.
    pub(super) fn turned(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    pub(super) fn judge(&self, now: Instant) -> Turns {
        let silent = now.duration_since(*self.0.lock().unwrap_or_else(PoisonError::into_inner));
        match silent {
            silent if silent >= DEAD_AFTER => Turns::Dead,
            silent if silent >= HANGS_AFTER => Turns::Hangs,
            _ => Turns::Well,
        }
    }
}

/// The text for people.
pub(super) fn trouble(group: &str) -> String {
    format!("the consumer of group {group} hangs: librdkafka has not answered for {} s", HANGS_AFTER.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_does_not_turn_hangs_and_is_dead_later() {
        let (watch, start) = (Watch::default(), Instant::now());
        watch.turned(start);
        let after = |seconds| watch.judge(start + Duration::from_secs(seconds));
        assert_eq!(
            [after(0), after(59), after(60), after(299)],
            [Turns::Well, Turns::Well, Turns::Hangs, Turns::Hangs]
        );
        assert_eq!(after(300), Turns::Dead);
        watch.turned(start + Duration::from_secs(310));
        assert_eq!(after(320), Turns::Well);
    }
}

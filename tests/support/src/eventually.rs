//! Looks again and again until something is so, and fails with what it saw last.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// Longer than anything that works takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long to wait for something, and how long between two looks: short at first.
struct Looks {
    patience: Duration,
    started: Instant,
    pause: Duration,
}

impl Looks {
    fn new(patience: Duration) -> Self {
        Self { patience, started: Instant::now(), pause: Duration::from_millis(5) }
    }

    /// How long to pause before the next look. None when the time is up.
    fn next_pause(&mut self) -> Option<Duration> {
        let pause = self.pause;
        self.pause = (pause * 2).min(Duration::from_millis(100));
        (self.started.elapsed() < self.patience).then_some(pause)
    }
}

/// Looks until it finds what it looks for, or fails with what it found last.
///
/// # Errors
/// When the time is up.
pub async fn eventually<T>(patience: Duration, what: &str, look: impl AsyncFn() -> Result<T>) -> Result<T> {
    let mut looks = Looks::new(patience);
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(error) => match looks.next_pause() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error).with_context(|| format!("not within {patience:?}: {what}")),
            },
        }
    }
}

/// Looks until the condition holds.
///
/// # Panics
/// When the time is up.
pub async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let mut looks = Looks::new(PATIENCE);
    while !condition() {
        let Some(pause) = looks.next_pause() else { panic!("not within {PATIENCE:?}: {what}") };
        tokio::time::sleep(pause).await;
    }
}

/// Looks until what is seen is as expected, in a test without a runtime.
///
/// # Panics
/// When the time is up: with what was seen last.
pub fn wait_for<T: Debug>(mut look: impl FnMut() -> T, expected: impl Fn(&T) -> bool) -> T {
    let mut looks = Looks::new(PATIENCE);
    loop {
        let seen = look();
        if expected(&seen) {
            return seen;
        }
        let Some(pause) = looks.next_pause() else { panic!("not within {PATIENCE:?}, still: {seen:?}") };
        std::thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        time::{Duration, Instant},
    };

    use anyhow::{Result, ensure};

    use super::{eventually, wait_for};

    #[tokio::test]
    async fn what_is_found_late_is_returned_and_what_is_not_found_is_an_error_with_the_last_reason() -> Result<()> {
        let looks = Cell::new(0);
        let third = eventually(Duration::from_secs(60), "the third look", async || {
            looks.set(looks.get() + 1);
            ensure!(looks.get() == 3, "look {}", looks.get());
            Ok(looks.get())
        });
        assert_eq!(third.await?, 3);
        let never: Result<()> = eventually(Duration::ZERO, "the end", async || anyhow::bail!("it is open")).await;
        assert_eq!(format!("{:#}", never.unwrap_err()), "not within 0ns: the end: it is open");
        Ok(())
    }

    #[test]
    fn what_is_seen_as_expected_is_returned_at_once() {
        let started = Instant::now();
        assert_eq!(wait_for(|| 7, |seen| *seen == 7), 7);
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}

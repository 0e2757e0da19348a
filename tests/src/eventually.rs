//! Patience: looking again and again until what should be so is so.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Longer than anything that works takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until it finds what it looks for, or fails with what it found last.
///
/// # Errors
/// When the time is up.
pub async fn eventually<T>(patience: Duration, what: &str, look: impl AsyncFn() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(error) if started.elapsed() >= patience => {
                return Err(error).with_context(|| format!("not within {patience:?}: {what}"));
            }
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

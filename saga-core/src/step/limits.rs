//! How an outside system may be called, and when calls stop.

use std::time::Duration;

/// How an outside system may be called.
#[derive(Clone, Debug)]
pub struct EffectLimits {
    /// A call that takes longer counts as a transient failure.
    pub timeout: Duration,
    /// Most concurrent calls of this step, per process.
    pub concurrency: usize,
    /// When to stop calling for a while.
    pub breaker: BreakerPolicy,
}

impl Default for EffectLimits {
    /// 3 s, so that ten attempts stay under a minute; 256 calls at once.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(3), concurrency: 256, breaker: BreakerPolicy::default() }
    }
}

/// When calls to an outside system are stopped because it fails for everybody.
#[derive(Clone, Debug)]
pub struct BreakerPolicy {
    /// Opens when at least this share of the last `window` calls failed (0.0 to 1.0).
    pub failure_share: f64,
    /// How many calls are looked at; none is judged before they are full.
    pub window: usize,
    /// How long it stays open before one trial call decides.
    pub open_for: Duration,
}

impl Default for BreakerPolicy {
    /// Nine tenths of the last 100 calls; one second.
    fn default() -> Self {
        Self { failure_share: 0.9, window: 100, open_for: Duration::from_secs(1) }
    }
}

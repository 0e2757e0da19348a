//! Limits of HTTP requests and connections.

use std::time::Duration;

/// `HTTP_IDLE_TIMEOUT`, `HTTP_CONCURRENCY` and `HTTP_QUEUE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpConfig {
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Requests that may use the database at once.
    pub concurrency: u16,
    /// Requests that may wait for the database; further ones are refused.
    pub queue: u16,
}

impl HttpConfig {
    pub(super) const IDLE_TIMEOUT: &str = "75s";
    pub(super) const CONCURRENCY: &str = "8";
    pub(super) const QUEUE: &str = "256";
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { idle_timeout: Duration::from_secs(75), concurrency: 8, queue: 256 }
    }
}

//! How much callers may ask for at once, and how long they are waited for.

use std::time::Duration;

/// `HTTP_IDLE_TIMEOUT`, `HTTP_CONCURRENCY` and `HTTP_QUEUE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpConfig {
    /// How long a connection is kept on which nothing is asked.
    pub idle_timeout: Duration,
    /// Requests that may use the database at once.
    pub concurrency: u16,
    /// Requests that may wait for their turn; what is beyond is refused.
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

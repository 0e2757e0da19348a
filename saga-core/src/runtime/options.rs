//! How much a participant takes on at once, and how long it waits.

use std::time::Duration;

/// How much a participant takes on at once, and how long it waits.
#[derive(Clone, Debug)]
pub struct Options {
    /// Events that may share a transaction.
    pub max_batch: usize,
    /// Events in hand: taken from the broker and not done yet.
    pub max_in_flight: usize,
    /// Bytes in hand, above which no more is taken.
    pub max_bytes_in_flight: usize,
    /// The first pause when the database or the broker is away; it doubles from there.
    pub first_pause: Duration,
    /// The longest such pause.
    pub longest_pause: Duration,
    /// How long a claimed parked event belongs to this process: longer than its effect and its transactions take, and as
    /// long as it waits when the process dies meanwhile.
    pub lease: Duration,
    /// How long a transaction waits for a row that somebody else has locked. What it still waits for then is found by halving
    /// the batch, each half with a tenth of it, and parked; all that takes four times as long at most.
    pub lock_timeout: Duration,
    /// How often parked sagas and timers are looked for that another process left behind.
    pub poll_every: Duration,
    /// On shutdown: how long work in hand may take before it is left to the next start.
    pub drain: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_batch: 500,
            max_in_flight: 2000,
            max_bytes_in_flight: 32 << 20,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            lease: Duration::from_secs(15),
            lock_timeout: Duration::from_millis(250),
            poll_every: Duration::from_secs(1),
            drain: Duration::from_secs(5),
        }
    }
}

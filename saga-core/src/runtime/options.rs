//! How much a participant takes on at once, and how long it waits.

use std::time::Duration;

/// How much a participant takes on at once, and how long it waits.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many events may share a transaction.
    pub max_batch: usize,
    /// How many events may be in flight: taken from the broker and not settled.
    pub max_in_flight: usize,
    /// How many bytes may be in flight. Above it no more records are taken.
    pub max_bytes_in_flight: usize,
    /// The first pause when the database or the broker is away; it doubles from there.
    pub first_pause: Duration,
    /// The longest such pause.
    pub longest_pause: Duration,
    /// How long a claimed parked event belongs to this process. It must be longer than the effect and its transactions take. After
    /// a crash the event waits for as long.
    pub lease: Duration,
    /// How long a transaction waits for a row that another one has locked. After that the batch is divided, each part waits a tenth
    /// of it, and the event that still waits is parked. All of that takes four times as long at most.
    pub lock_timeout: Duration,
    /// How often to look for parked sagas and timers that another process left behind.
    pub poll_every: Duration,
    /// On shutdown: how long events in flight may take before they are left to the next start.
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

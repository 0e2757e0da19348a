//! Times and ids as SQLite's columns: microseconds since 1970, and text.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use saga_core::{clock::after, store::StoreError};

use crate::columns;

/// The current time. The file is on this machine, so its clock is the database's. In tests it follows tokio's clock, if
/// that is stopped or moved.
pub(super) fn now() -> Timestamp {
    let (virtual_now, real_now) = (tokio::time::Instant::now().into_std(), Instant::now());
    let ahead = virtual_now.saturating_duration_since(real_now);
    let behind = real_now.saturating_duration_since(virtual_now);
    after(Timestamp::now(), ahead).checked_sub(behind).unwrap_or(Timestamp::MIN)
}

/// A time from now on, as it is stored.
pub(super) fn in_micros(duration: Duration) -> i64 {
    micros(after(now(), columns::wait(duration)))
}

/// A time, as it is stored.
pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// Reads a time.
pub(super) fn time(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|_| StoreError::Broken(format!("{micros} is not a time")))
}

/// Reads an id.
pub(super) fn read_uuid(text: &str) -> Result<uuid::Uuid, StoreError> {
    text.parse().map_err(|_| StoreError::Broken(format!("{text:?} is not a UUID")))
}

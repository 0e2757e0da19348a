//! How times and ids stand in SQLite's columns: microseconds since 1970, and text.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use saga_core::{clock::after, store::StoreError};

use crate::columns;

/// Now. This machine has the file, and so its clock is the database's; where tests have stopped or moved tokio's clock, it
/// moves with that one.
pub(super) fn now() -> Timestamp {
    let (virtual_now, real_now) = (tokio::time::Instant::now().into_std(), Instant::now());
    let ahead = virtual_now.saturating_duration_since(real_now);
    let behind = real_now.saturating_duration_since(virtual_now);
    after(Timestamp::now(), ahead).checked_sub(behind).unwrap_or(Timestamp::MIN)
}

/// When it is so long from now, as it is stored.
pub(super) fn in_micros(duration: Duration) -> i64 {
    micros(after(now(), columns::wait(duration)))
}

/// A time as it is stored.
pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// A stored time.
pub(super) fn time(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|_| StoreError::Broken(format!("{micros} is not a time")))
}

/// An id read back.
pub(super) fn read_uuid(text: &str) -> Result<uuid::Uuid, StoreError> {
    text.parse().map_err(|_| StoreError::Broken(format!("{text:?} is not a UUID")))
}

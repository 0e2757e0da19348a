//! What the tests share: a service, a plain HTTP client, and patience.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod client;
pub(crate) mod probe;

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

/// Looks until what is seen is as expected.
pub(crate) fn eventually<T: Debug>(mut look: impl FnMut() -> T, expected: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let seen = look();
        if expected(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "still: {seen:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

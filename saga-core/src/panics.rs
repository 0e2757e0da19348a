//! Panics in a participant's own code outside a handler: a panic fails its event, and the process goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the closure; none when it panicked. The panic's message is dropped, because it may quote an event's data.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}

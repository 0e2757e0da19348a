//! Panics of a participant's own code outside a handler: one fails its event, not the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs it; none when it panicked. What the panic says is not handed on, because it may quote an event's data.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}

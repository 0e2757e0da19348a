//! How far the reading is, on a terminal's standard error, when it takes its time.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// Whoever waits longer wants to know for what.
const PATIENCE: Duration = Duration::from_secs(1);
const REDRAW: Duration = Duration::from_millis(200);

/// A line that is drawn again and again, and is gone in the end.
pub(super) struct ProgressLine {
    is_terminal: bool,
    next: Instant,
    is_drawn: bool,
}

impl ProgressLine {
    pub(super) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), next: Instant::now() + PATIENCE, is_drawn: false }
    }

    pub(super) fn show(&mut self, (read, of): (i64, i64)) {
        if !self.is_terminal || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + REDRAW;
        self.is_drawn = true;
        // What cannot be shown is not worth failing for.
        let _ = write!(io::stderr(), "\rreading: {read} of {of} records\x1b[K");
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.is_drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

//! Reading progress on standard error, shown on a terminal when reading takes longer than a second.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const DELAY: Duration = Duration::from_secs(1);
const TEMPLATE: &str = "reading: {pos} of {len} records";

/// A line that is removed on drop.
pub(super) struct ReadProgress {
    begun: Instant,
    line: ProgressBar,
}

impl ReadProgress {
    pub(super) fn new() -> Self {
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_style(style);
        Self { begun: Instant::now(), line }
    }

    pub(super) fn show(&mut self, (read, of): (i64, i64)) {
        if self.line.is_hidden() && self.begun.elapsed() >= DELAY {
            self.line.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.line.set_length(u64::try_from(of).unwrap_or_default());
        self.line.set_position(u64::try_from(read).unwrap_or_default());
    }
}

impl Drop for ReadProgress {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}

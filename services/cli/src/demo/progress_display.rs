//! Prints the demo's steps and, on a terminal, a progress bar below them.

use std::{
    env,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::progress::ProgressSnapshot;
use saga_tools::text::{BAD, BOLD, DIM, GOOD, Line, PLAIN};

/// Without a terminal, progress is printed this often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// The width of a step's name.
const STEP: usize = 34;
const WITH_BAR: &str = "  {spinner} {bar:20.green/dim}  {prefix}\n    {wide_msg}";
const WITHOUT_BAR: &str = "  {spinner} {wide_msg}";

#[derive(Clone, Copy)]
enum Output {
    Stdout,
    Stderr,
    /// The results are JSON, and standard error is not a terminal.
    None,
}

/// Shows the demo's progress. Errors of writing it are ignored; the report at the end is not written here.
pub(crate) struct ProgressDisplay {
    output: Output,
    colour: bool,
    redraws: bool,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl ProgressDisplay {
    /// Progress goes to standard output, or to standard error when the results are JSON. A log on the same terminal would
    /// destroy a bar, so there is none then.
    pub(crate) fn new(json: bool, log_on_terminal: bool) -> Self {
        let is_terminal = if json { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let output = match (json, is_terminal) {
            (false, _) => Output::Stdout,
            (true, true) => Output::Stderr,
            (true, false) => Output::None,
        };
        let can_redraw = is_terminal && env::var_os("TERM").is_none_or(|term| term != "dumb");
        let wants_colour = env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        Self {
            output,
            colour: can_redraw && wants_colour,
            redraws: can_redraw && !log_on_terminal,
            bar: None,
            last_line: Instant::now(),
        }
    }

    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    fn write(&self, text: &str) {
        let _ = match self.output {
            Output::Stdout => io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()),
            Output::Stderr => io::stderr().write_all(text.as_bytes()),
            Output::None => Ok(()),
        };
    }

    /// Prints a line above the bar.
    pub(crate) fn line(&mut self, line: &Line) {
        self.clear();
        self.write(&(line.render(self.colour, None) + "\n"));
        self.last_line = Instant::now();
    }

    pub(crate) fn title(&mut self, title: &str, about: &str) {
        self.line(&Line::new().add(BOLD, title).add(DIM, format!("  {about}")));
        self.line(&Line::new());
    }

    /// Prints a step that succeeded.
    pub(crate) fn done(&mut self, what: &str, details: &str) {
        self.line(&Line::new().add(GOOD, "  ✓ ").left(PLAIN, what, STEP).plain("  ").add(DIM, details));
    }

    /// Prints a step that failed.
    pub(crate) fn failed(&mut self, what: &str, details: &str) {
        self.line(&Line::new().add(BAD, "  ✗ ").left(PLAIN, what, STEP).plain("  ").plain(details));
    }

    /// Shows the current activity with a bar of the orders that have ended.
    pub(crate) fn progress(&mut self, snapshot: &ProgressSnapshot) {
        if !self.redraws {
            self.plain_line(&[&snapshot.counts, &snapshot.activity]);
            return;
        }
        let bar = self.bar(WITH_BAR);
        bar.set_length(u64::try_from(snapshot.all).unwrap_or(u64::MAX));
        bar.set_position(u64::try_from(snapshot.ended).unwrap_or(u64::MAX));
        bar.set_prefix(snapshot.counts.render(self.colour, None));
        bar.set_message(snapshot.activity.render(self.colour, None));
    }

    /// Shows the current activity.
    pub(crate) fn activity(&mut self, activity: String) {
        if self.redraws {
            self.bar(WITHOUT_BAR).set_message(activity);
        } else {
            self.plain_line(&[&Line::new().plain(activity)]);
        }
    }

    fn plain_line(&mut self, lines: &[&Line]) {
        if self.last_line.elapsed() >= PLAIN_INTERVAL {
            self.last_line = Instant::now();
            let text: Vec<String> = lines.iter().map(|line| line.render(self.colour, None)).collect();
            self.write(&format!("    {}\n", text.join("  ")));
        }
    }

    /// The bar, new after a line was printed.
    fn bar(&mut self, template: &str) -> ProgressBar {
        let output = self.output;
        let new = || {
            let target = match output {
                Output::Stdout => ProgressDrawTarget::stdout(),
                Output::Stderr => ProgressDrawTarget::stderr(),
                Output::None => ProgressDrawTarget::hidden(),
            };
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(None, target).with_style(style.progress_chars("━━━"));
            bar.enable_steady_tick(REDRAW_INTERVAL);
            bar
        };
        self.bar.get_or_insert_with(new).clone()
    }

    /// Removes the bar.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid() {
        for template in [WITH_BAR, WITHOUT_BAR] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}

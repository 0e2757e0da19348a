//! Where progress is shown: lines that stay, and on a terminal a few that are drawn again and again.

use std::{
    env,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use saga_tools::text::{BAD, BOLD, DIM, GOOD, Line};

const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// Where nothing can be redrawn, a line now and then says that all is well.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// Of the terminal's width, unless it tells.
const USUAL_WIDTH: usize = 80;
/// Of the name of a step.
const STEP: usize = 34;

enum To {
    Stdout,
    Stderr,
    /// A program reads the results, and nobody watches.
    Nowhere,
}

/// Shows how far the demo is. What cannot be shown is not worth failing for, except at the end.
pub(crate) struct Screen {
    to: To,
    colour: bool,
    live: bool,
    drawn: usize,
    frame: usize,
    last: Instant,
}

impl Screen {
    /// Progress beside results that people read, or (`json`) that programs read. A log on the same terminal would tear
    /// moving lines apart.
    pub(crate) fn new(json: bool, log_on_terminal: bool) -> Self {
        let is_terminal = if json { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let to = match (json, is_terminal) {
            (false, _) => To::Stdout,
            (true, true) => To::Stderr,
            (true, false) => To::Nowhere,
        };
        let can_move = env::var_os("TERM").is_none_or(|term| term != "dumb");
        let wants_colour = env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        Self {
            to,
            colour: is_terminal && can_move && wants_colour,
            live: is_terminal && can_move && !log_on_terminal,
            drawn: 0,
            frame: 0,
            last: Instant::now(),
        }
    }

    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// Whether lines can be drawn again.
    pub(crate) fn moves(&self) -> bool {
        self.live
    }

    fn write(&self, text: &str) {
        let _ = match self.to {
            To::Stdout => io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()),
            To::Stderr => io::stderr().write_all(text.as_bytes()),
            To::Nowhere => Ok(()),
        };
    }

    /// A line that stays.
    pub(crate) fn line(&mut self, line: &Line) {
        self.clear();
        self.write(&(line.render(self.colour, None) + "\n"));
        self.last = Instant::now();
    }

    pub(crate) fn title(&mut self, title: &str, about: &str) {
        self.line(&Line::new().add(BOLD, title).add(DIM, format!("  {about}")));
        self.line(&Line::new());
    }

    /// A step that is done.
    pub(crate) fn done(&mut self, what: &str, details: &str) {
        self.line(
            &Line::new().add(GOOD, "  ✓ ").left(saga_tools::text::PLAIN, what, STEP).plain("  ").add(DIM, details),
        );
    }

    /// A step that did not work out.
    pub(crate) fn failed(&mut self, what: &str, details: &str) {
        self.line(&Line::new().add(BAD, "  ✗ ").left(saga_tools::text::PLAIN, what, STEP).plain("  ").plain(details));
    }

    /// What is going on right now.
    pub(crate) fn working(&mut self, lines: &[Line]) {
        if !self.live {
            if self.last.elapsed() >= SIGN_OF_LIFE {
                self.last = Instant::now();
                let text: Vec<String> = lines.iter().map(|line| line.render(self.colour, None)).collect();
                self.write(&format!("    {}\n", text.join("  ")));
            }
            return;
        }
        let width = terminal_size::terminal_size().map_or(USUAL_WIDTH, |(width, _)| usize::from(width.0));
        let mut text = self.up();
        for (i, line) in lines.iter().enumerate() {
            let mark = if i == 0 { FRAMES[self.frame % FRAMES.len()] } else { " " };
            // The last column stays free: some terminals wrap when it is written.
            let room = width.saturating_sub(5);
            text.push_str(&format!("  {mark} {}\x1b[K\n", line.render(self.colour, Some(room))));
        }
        text.push_str("\x1b[J");
        self.frame += 1;
        self.write(&text);
        self.drawn = lines.len();
    }

    /// Takes the moving lines away.
    pub(crate) fn clear(&mut self) {
        if self.drawn > 0 {
            let text = self.up() + "\x1b[J";
            self.drawn = 0;
            self.write(&text);
        }
    }

    fn up(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\x1b[{}A\r", self.drawn) }
    }
}

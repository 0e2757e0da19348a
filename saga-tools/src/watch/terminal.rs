//! Redraws a table in place on a terminal.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use crate::text::Line;

/// The size of a terminal that does not report it.
const USUAL: (usize, usize) = (80, 24);
const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// A terminal that is redrawn in place. Dropping it restores the cursor.
pub(super) struct Terminal {
    colour: bool,
    drawn: usize,
}

impl Terminal {
    /// None when standard output cannot be redrawn.
    pub(super) fn new() -> Option<Self> {
        let can_move = env::var_os("TERM").is_none_or(|term| term != "dumb");
        let colour = env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        (io::stdout().is_terminal() && can_move).then(|| Self { colour, drawn: 0 })
    }

    /// Draws the lines over the previous ones, as many as fit.
    pub(super) fn draw(&mut self, lines: &[Line]) -> io::Result<()> {
        let (width, height) = terminal_size::terminal_size()
            .map_or(USUAL, |(width, height)| (usize::from(width.0), usize::from(height.0)));
        // The last column and the last line stay empty: writing there would scroll or wrap.
        let (width, height) = (width.saturating_sub(1), height.saturating_sub(1));
        let text = frame(lines, (width, height), self.drawn.min(height), self.colour);
        self.drawn = lines.len().min(height);
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A closed terminal needs no cursor.
        let _ = io::stdout().write_all(SHOW_CURSOR.as_bytes()).and_then(|()| io::stdout().flush());
    }
}

fn frame(lines: &[Line], (width, height): (usize, usize), drawn: usize, colour: bool) -> String {
    let mut text = HIDE_CURSOR.to_owned();
    if drawn > 0 {
        text.push_str(&format!("\x1b[{drawn}A\r"));
    }
    for line in lines.iter().take(height) {
        text.push_str(&format!("{}\x1b[K\n", line.render(colour, Some(width))));
    }
    text.push_str("\x1b[J");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_and_covers_the_one_before() {
        let lines: Vec<Line> = (0..5).map(|n| Line::new().plain(format!("{n} and more"))).collect();
        let text = frame(&lines, (3, 2), 4, false);
        assert_eq!(text, "\x1b[?25l\x1b[4A\r0 a\x1b[K\n1 a\x1b[K\n\x1b[J");
    }
}

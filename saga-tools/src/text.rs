//! Lines of styled text: coloured on a terminal, plain everywhere else.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style};
use saga_core::dead_letter::cap;

/// No style.
pub const PLAIN: Style = Style::new();
/// Important text.
pub const BOLD: Style = Style::new().bold();
/// Explanations.
pub const DIM: Style = Style::new().dimmed();
/// Success.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Failure.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Warnings.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// Names.
pub const NAME: Style = AnsiColor::Cyan.on_default();

/// A line of text in styled pieces.
#[derive(Clone, Default)]
pub struct Line(Vec<(Style, String)>);

impl Line {
    /// Creates an empty line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends text in this style.
    pub fn add(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// Appends unstyled text.
    pub fn plain(self, text: impl Into<String>) -> Self {
        self.add(PLAIN, text)
    }

    /// Appends text padded on the right.
    pub fn left(self, style: Style, text: &str, width: usize) -> Self {
        let gap = " ".repeat(width.saturating_sub(text.chars().count()));
        self.add(style, text).plain(gap)
    }

    /// Appends text padded on the left.
    pub fn right(self, style: Style, text: &str, width: usize) -> Self {
        let gap = " ".repeat(width.saturating_sub(text.chars().count()));
        self.plain(gap).add(style, text)
    }

    /// The line without its end, cut to this many characters if a width is given.
    pub fn render(&self, colour: bool, width: Option<usize>) -> String {
        let (mut text, mut room) = (String::new(), width.unwrap_or(usize::MAX));
        for (style, piece) in &self.0 {
            // Control characters from Kafka must not move the cursor.
            let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
            let piece: String = piece.chars().map(shown).take(room).collect();
            room -= piece.chars().count();
            if colour && *style != PLAIN {
                text.push_str(&format!("{style}{piece}{style:#}"));
            } else {
                text.push_str(&piece);
            }
        }
        text.truncate(text.trim_end_matches(' ').len());
        text
    }
}

/// Cuts text from records to the length limit of dead letters.
pub fn capped<'a>(text: impl Into<Cow<'a, str>>) -> String {
    let text = text.into();
    // Copies the part that is kept, so that the rest is freed.
    if cap(&text).len() < text.len() { cap(&text).to_owned() } else { text.into_owned() }
}

/// `14 ms`, `1.24 s`, `16.2 s`, `4 min 12 s`, `3 h 05 min`, `2 d 4 h`.
pub fn duration(ms: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "far below the limits of either")]
    let seconds = (ms / 1000.0).max(0.0) as u64;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match ms {
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 9_995.0 => format!("{:.2} s", ms / 1000.0),
        ms if ms < 120_000.0 => format!("{:.1} s", ms / 1000.0),
        _ if minutes < 60 => format!("{minutes} min {:02} s", seconds % 60),
        _ if hours < 48 => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// `1 order`, `2 orders`.
pub fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// `59.97`.
pub fn money(cents: i64) -> String {
    let (whole, rest) = (cents.unsigned_abs() / 100, cents.unsigned_abs() % 100);
    format!("{}{whole}.{rest:02}", if cents < 0 { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_left_out_without_a_terminal() {
        let line = Line::new().add(GOOD, "✓").plain(" all ").right(BOLD, "7", 3).plain("  ");
        assert_eq!(line.render(false, None), "✓ all   7");
        assert!(line.render(true, None).contains("\u{1b}["));
        assert_eq!(line.render(false, Some(3)), "✓ a");
        assert_eq!(Line::new().plain("a\u{1b}[2Jb").render(true, None), "a\u{fffd}[2Jb");
    }

    #[test]
    fn durations_and_money_are_short() {
        assert_eq!([duration(14.2), duration(1243.0), duration(16_249.0)], ["14 ms", "1.24 s", "16.2 s"]);
        assert_eq!([duration(252_000.0), duration(11_100_000.0)], ["4 min 12 s", "3 h 05 min"]);
        assert_eq!([money(5997), money(-5), money(100)], ["59.97", "-0.05", "1.00"]);
    }
}

//! Lines of styled text: coloured on a terminal, plain everywhere else.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style};
use saga_core::dead_letter::cap;

/// No style.
pub const PLAIN: Style = Style::new();
/// What counts.
pub const BOLD: Style = Style::new().bold();
/// What explains.
pub const DIM: Style = Style::new().dimmed();
/// What went well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What went wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What to look at.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// Names.
pub const NAME: Style = AnsiColor::Cyan.on_default();

/// A line: pieces of text, each in its style.
#[derive(Clone, Default)]
pub struct Line(Vec<(Style, String)>);

impl Line {
    /// An empty line.
    pub fn new() -> Self {
        Self::default()
    }

    /// More text, in this style.
    pub fn add(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// More text without a style.
    pub fn plain(self, text: impl Into<String>) -> Self {
        self.add(PLAIN, text)
    }

    /// Text that is filled up with spaces on the right.
    pub fn left(self, style: Style, text: &str, width: usize) -> Self {
        let gap = " ".repeat(width.saturating_sub(text.chars().count()));
        self.add(style, text).plain(gap)
    }

    /// Text that is filled up with spaces on the left.
    pub fn right(self, style: Style, text: &str, width: usize) -> Self {
        let gap = " ".repeat(width.saturating_sub(text.chars().count()));
        self.plain(gap).add(style, text)
    }

    /// The line as it is written, without its end; cut to this many characters, if any.
    pub fn render(&self, colour: bool, width: Option<usize>) -> String {
        let (mut text, mut room) = (String::new(), width.unwrap_or(usize::MAX));
        for (style, piece) in &self.0 {
            // What others wrote into Kafka must not move the cursor.
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

/// Text that others wrote, cut where dead letters cut theirs.
pub fn capped<'a>(text: impl Into<Cow<'a, str>>) -> String {
    let text = text.into();
    // A copy also of what was cut: the rest must not stay allocated.
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
    fn colour_is_left_out_where_nobody_sees_it() {
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

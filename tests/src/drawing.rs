//! A trace as a picture: an SVG with a bar per span, for pages that show neither scripts nor other fonts.

use std::{fmt::Write, time::Duration};

use crate::jaeger::{Span, Trace};

const WIDTH: f64 = 1080.0;
const MARGIN: f64 = 20.0;
const ROW: f64 = 22.0;
const INDENT: f64 = 11.0;
/// Where the bars begin and end.
const LEFT: f64 = 500.0;
const RIGHT: f64 = WIDTH - 80.0;
const TOP: f64 = 104.0;
/// What a character is wide, at most on average: no font can be measured here.
const CHARACTER: f64 = 6.4;

/// Services have these colours in the order in which they appear; dark enough for white text, and apart for the
/// colour-blind too.
const COLOURS: [&str; 6] = ["#3b6fb5", "#b35c00", "#2f7d4f", "#7d4fa8", "#5f6b7a", "#8f6a00"];

const EVENT_TAG: &str = "cloudevents.event_type";
const OUTCOME_TAG: &str = "saga.outcome";
const OPERATION_TAG: &str = "saga.op";
const ATTEMPT_TAG: &str = "saga.attempt";

/// Draws a trace. The same trace gives the same picture, wherever and whenever it ran: only durations are shown.
pub fn svg(trace: &Trace, title: &str) -> String {
    let rows = trace.depth_first();
    let start = trace.spans.iter().map(|span| span.start).min().unwrap_or_default();
    let end = trace.spans.iter().map(Span::end).max().unwrap_or_default();
    let total = (end - start).max(1);
    let scale = (RIGHT - LEFT) / total as f64;
    let mut services: Vec<&str> = Vec::new();
    for (_, span) in &rows {
        if !services.contains(&span.service.as_str()) {
            services.push(&span.service);
        }
    }
    let height = TOP + ROW * rows.len() as f64 + MARGIN;
    let summary = format!("{} spans, {} services, {}", rows.len(), services.len(), milliseconds(total));

    let mut picture = Picture(String::new());
    picture.open(height, &format!("{title}: {summary}"));
    picture.text(MARGIN, 34.0, "title", "start", title);
    picture.text(MARGIN, 54.0, "muted", "start", &summary);
    let mut x = MARGIN;
    for (number, service) in services.iter().enumerate() {
        picture.rect(x, 67.0, 11.0, 11.0, &format!("fill=\"{}\"", colour(number)));
        picture.text(x + 17.0, 77.0, "label", "start", service);
        x += 40.0 + width(service);
    }
    for at in ticks(total) {
        let x = LEFT + at as f64 * scale;
        picture.line((x, TOP - 4.0), (x, height - MARGIN), "grid");
        picture.text(x, TOP - 10.0, "muted", "middle", &milliseconds(at));
    }
    let mut last_row_at_depth: Vec<f64> = Vec::new();
    for (row, (depth, span)) in rows.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let middle = y + ROW / 2.0;
        let x = MARGIN + INDENT * *depth as f64;
        last_row_at_depth.truncate(*depth);
        if let Some(above) = last_row_at_depth.last() {
            let trunk = x - INDENT + 4.0;
            picture.line((trunk, above + 6.0), (trunk, middle), "branch");
            picture.line((trunk, middle), (x - 2.0, middle), "branch");
        }
        last_row_at_depth.push(middle);

        let colour = colour(services.iter().position(|service| *service == span.service).unwrap_or_default());
        let (marks, class) = marks(span);
        let event = span.text(EVENT_TAG);
        picture.begin_row(&format!("{span} {event}: {}{marks}", milliseconds(micros(span.duration))));
        picture.rect(x, middle - 4.0, 8.0, 8.0, &format!("fill=\"{colour}\" rx=\"4\""));
        picture.label(x + 13.0, middle + 4.0, &span.name, event);

        let from = LEFT + (span.start - start) as f64 * scale;
        let wide = (micros(span.duration) as f64 * scale).max(2.0);
        let bar = |fill: &str| format!("fill=\"{fill}\" rx=\"2\"");
        picture.rect(from, y + 4.0, wide, ROW - 8.0, &bar(colour));
        if is_compensation(span) {
            picture.rect(from, y + 4.0, wide, ROW - 8.0, &bar("url(#back)"));
        }
        if span.error().is_some() {
            picture.rect(from, y + 4.0, wide, ROW - 8.0, "class=\"failed\" rx=\"2\"");
        }
        let note = format!("{}{marks}", milliseconds(micros(span.duration)));
        let (behind, before) = (from + wide + 5.0, from - 5.0);
        if behind + width(&note) <= WIDTH - 6.0 {
            picture.text(behind, middle + 4.0, class, "start", &note);
        } else if before - width(&note) >= LEFT {
            picture.text(before, middle + 4.0, class, "end", &note);
        } else {
            let note = shortened(&note, wide - 12.0);
            picture.text(from + 6.0, middle + 4.0, "inside", "start", &note);
        }
        picture.0.push_str("</g>\n");
    }
    picture.0.push_str("</svg>\n");
    picture.0
}

/// What is special about a span, in words, and how it is written.
fn marks(span: &Span) -> (String, &'static str) {
    let mut marks = String::new();
    let mut class = "muted";
    if let Some(attempt) = span.number(ATTEMPT_TAG).filter(|attempt| *attempt > 1) {
        let _ = write!(marks, ", attempt {attempt}");
    }
    if is_compensation(span) {
        marks.push_str(", \u{21a9} compensates");
        class = "back";
    }
    if span.text(OUTCOME_TAG) == "refused" {
        marks.push_str(", \u{2298} refused");
        class = "refused";
    }
    if let Some(error) = span.error() {
        let _ = write!(marks, ", \u{2717} {}", if error.is_empty() { "failed" } else { error });
        class = "error";
    }
    (marks, class)
}

fn is_compensation(span: &Span) -> bool {
    span.text(OPERATION_TAG) == "compensate"
}

fn colour(number: usize) -> &'static str {
    COLOURS[number % COLOURS.len()]
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn milliseconds(micros: i64) -> String {
    match micros {
        0 => "0".to_owned(),
        ..1_000 => format!("{micros} \u{b5}s"),
        1_000..10_000_000 if micros % 1000 == 0 => format!("{} ms", micros / 1000),
        1_000..10_000 => format!("{:.2} ms", micros as f64 / 1e3),
        10_000..100_000 => format!("{:.1} ms", micros as f64 / 1e3),
        100_000..10_000_000 => format!("{:.0} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

/// Four to nine round times between the beginning and the end.
fn ticks(total: i64) -> Vec<i64> {
    let mut step = 1;
    for factor in [2, 5, 10].into_iter().cycle() {
        if total / step <= 9 {
            break;
        }
        step = match factor {
            2 => step * 2,
            5 => step / 2 * 5,
            _ => step * 2,
        };
    }
    (0..=total / step).map(|n| n * step).collect()
}

fn width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

fn shortened(text: &str, room: f64) -> String {
    let characters = (room / CHARACTER).max(0.0) as usize;
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    match characters {
        0 => String::new(),
        _ => text.chars().take(characters - 1).chain(['\u{2026}']).collect(),
    }
}

/// The text as XML has it; what XML cannot hold at all is replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push(' '),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}

struct Picture(String);

// Writing into a string never fails.
impl Picture {
    /// A card of its own: it looks the same on a light and on a dark page.
    fn open(&mut self, height: f64, description: &str) {
        let description = escaped(description);
        let _ = write!(
            self.0,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="{description}">
<title>{description}</title>
<style>
text {{ font: 12px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; fill: #1f2328 }}
.title {{ font-size: 16px; font-weight: 600 }}
.muted {{ fill: #59636e }}
.back {{ fill: #6b3fa0 }}
.refused {{ fill: #8a5a00; font-weight: 600 }}
.error {{ fill: #b3202c; font-weight: 600 }}
.inside {{ fill: #ffffff }}
.grid {{ stroke: #d8dee4 }}
.branch {{ stroke: #a5aeb8 }}
.failed {{ fill: none; stroke: #b3202c; stroke-width: 2 }}
</style>
<defs><pattern id="back" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="2" height="6" fill="#ffffff" fill-opacity="0.45"/></pattern></defs>
<rect x="0.5" y="0.5" width="{}" height="{}" rx="6" fill="#f6f8fa" stroke="#d1d9e0"/>
"##,
            WIDTH - 1.0,
            height - 1.0,
        );
    }

    fn begin_row(&mut self, title: &str) {
        let _ = writeln!(self.0, "<g><title>{}</title>", escaped(title));
    }

    fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, attributes: &str) {
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" {attributes}/>"
        );
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ =
            writeln!(self.0, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>");
    }

    fn text(&mut self, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
        let text = escaped(text);
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    /// A span's name, and its event as far as there is room.
    fn label(&mut self, x: f64, y: f64, name: &str, event: &str) {
        let room = LEFT - 10.0 - x;
        let name = shortened(name, room);
        let event = shortened(event, room - width(&name) - 8.0);
        let (name, event) = (escaped(&name), escaped(&event));
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\">{name}<tspan class=\"muted\" dx=\"8\">{event}</tspan></text>"
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jaeger;

    /// The texts of a picture in their order, and its elements checked to be closed in theirs.
    fn texts(svg: &str) -> Vec<String> {
        let (mut open, mut texts) = (Vec::new(), Vec::new());
        for piece in svg.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').unwrap();
            assert!(!text.contains('>'), "{piece}");
            let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "{piece}");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            if !text.trim().is_empty() && name != "style" {
                texts.push(text.trim().to_owned());
            }
        }
        assert!(open.is_empty(), "{open:?}");
        texts
    }

    #[test]
    fn every_span_has_a_row_in_the_order_of_the_tree() {
        let trace = jaeger::tests::trace();
        let svg = svg(&trace, "An order that nobody ships");
        let texts = texts(&svg);
        assert_eq!(texts[1], "An order that nobody ships");
        assert_eq!(texts[2], "16 spans, 4 services, 51.4 ms");
        let rows: Vec<&str> = svg.lines().filter(|line| line.starts_with("<g><title>")).collect();
        assert_eq!(rows.len(), trace.spans.len());
        assert!(rows[0].contains("order-service POST /orders"), "{}", rows[0]);
        assert!(rows[15].contains("order-service send order.events order.cancelled"), "{}", rows[15]);
    }

    #[test]
    fn refusals_compensations_attempts_and_errors_are_marked_in_words() {
        let texts = texts(&svg(&jaeger::tests::trace(), ""));
        for mark in [
            "2.50 ms, \u{2298} refused",
            "7.90 ms, \u{21a9} compensates",
            "4.90 ms, attempt 2",
            "5.10 ms, \u{2717} the gateway did not answer",
        ] {
            assert_eq!(texts.iter().filter(|text| *text == mark).count(), 1, "{mark}: {texts:?}");
        }
    }

    #[test]
    fn names_and_titles_are_escaped() {
        let svg = svg(&jaeger::tests::trace(), "<script>alert('\u{0}')</script> & \"more\"");
        texts(&svg);
        assert!(!svg.contains("<script"), "{svg}");
        assert!(svg.contains("&lt;script&gt;alert(&#39;\u{fffd}&#39;)&lt;/script&gt; &amp; &quot;more&quot;"), "{svg}");
        assert!(svg.contains(">charge &lt;gateway&gt; &amp; wait<"), "{svg}");
    }

    #[test]
    fn when_it_ran_and_under_which_ids_does_not_show() {
        let (mut later, ids) = (jaeger::tests::answer(), jaeger::tests::trace().id);
        for span in later["data"][0]["spans"].as_array_mut().unwrap() {
            span["startTime"] = json!(span["startTime"].as_i64().unwrap() + 1_000_000_000);
        }
        let later = later.to_string().replace(&ids, "0123456789abcdef0123456789abcdef");
        let later = jaeger::Trace::parse(&serde_json::from_str(&later).unwrap()).unwrap();
        assert_eq!(svg(&later, "t"), svg(&jaeger::tests::trace(), "t"));
    }

    #[test]
    fn nothing_is_drawn_outside_however_deep_and_long_a_trace_is() {
        let mut trace = jaeger::tests::trace();
        trace.spans.truncate(1);
        let root = trace.spans[0].clone();
        for n in 1..40 {
            let mut span = root.clone();
            span.id = format!("{n:016x}f");
            span.parent = Some(trace.spans[n - 1].id.clone());
            span.name = "\u{4e2d}".repeat(300);
            span.duration = Duration::from_secs(3600);
            span.tags.insert("error".to_owned(), json!(true));
            trace.spans.push(span);
        }
        let svg = svg(&trace, "deep");
        texts(&svg);
        for line in svg.lines().filter(|line| line.starts_with("<text")) {
            let attribute = |name: &str| -> f64 {
                line.split_once(&format!(" {name}=\"")).unwrap().1.split('"').next().unwrap().parse().unwrap()
            };
            assert!((0.0..WIDTH).contains(&attribute("x")), "{line}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(51_400), [0, 10_000, 20_000, 30_000, 40_000, 50_000]);
        assert_eq!(ticks(1), [0, 1]);
        for total in [7, 99, 1234, 56_789, 1_000_000, 86_400_000_000] {
            assert!((3..=10).contains(&ticks(total).len()), "{total}: {:?}", ticks(total));
        }
    }
}

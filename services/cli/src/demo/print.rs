//! The demo's report as text.

use super::{
    report::{DeadLetterRow, EndingRow, Report},
    timeline::{Timeline, TimelineEntry},
};
use saga_tools::text::{BAD, BOLD, DIM, GOOD, Line, NAME, PLAIN, WARN, count, duration};

const ENDING: usize = 27;
const OUTCOME: usize = 34;
const NUMBER: usize = 8;
const OFFSET: usize = 9;
const PARTICIPANT: usize = 11;
const EVENT: usize = 30;
const INVARIANT: usize = 50;

/// The whole report, line by line.
pub(crate) fn lines(report: &Report) -> Vec<Line> {
    let mut lines = vec![Line::new()];
    lines.extend(endings(report));
    lines.push(heading("Timelines", "the typical order of each ending"));
    report.timelines.iter().for_each(|timeline| lines.extend(story(timeline)));
    lines.extend(poison(&report.poison));
    lines.push(heading("Invariants", "checked in the four databases, the gateway's charges and all topics"));
    lines.extend(invariants(report));
    lines.push(Line::new());
    lines.push(verdict(report));
    lines
}

fn heading(title: &str, about: &str) -> Line {
    Line::new().add(BOLD, title).add(DIM, format!("  {about}"))
}

fn endings(report: &Report) -> Vec<Line> {
    let head = Line::new().plain("  ").left(DIM, "", ENDING).left(DIM, "outcome", OUTCOME);
    let head = ["orders", "p50", "p99"].into_iter().fold(head, |line, name| line.right(DIM, name, NUMBER));
    let mut lines = vec![heading("Endings", "from the request until the last event is read from Kafka"), head];
    lines.extend(report.endings.iter().map(scenario));
    lines.push(Line::new());
    lines
}

fn scenario(row: &EndingRow) -> Line {
    let time = |ms: Option<f64>| ms.map_or("-".to_owned(), duration);
    let outcome = match &row.reason {
        Some(reason) => format!("{} ({reason})", row.status),
        None => row.status.to_owned(),
    };
    let style = if row.reason.is_some() { WARN } else { GOOD };
    let line = Line::new()
        .plain("  ")
        .left(PLAIN, row.scenario.title(), ENDING)
        .left(style, &outcome, OUTCOME)
        .right(BOLD, &row.orders.to_string(), NUMBER)
        .right(PLAIN, &time(row.p50_ms), NUMBER)
        .right(PLAIN, &time(row.p99_ms), NUMBER);
    match &row.remark {
        Some(remark) => line.add(DIM, format!("  {remark}")),
        None => line,
    }
}

fn story(timeline: &Timeline) -> Vec<Line> {
    let title = Line::new().plain("  ").add(BOLD, timeline.scenario.title()).add(DIM, format!("  {}", timeline.about));
    let mut lines = vec![title];
    lines.extend(timeline.entries.iter().map(entry));
    lines.push(Line::new());
    lines
}

fn poison(dead_letters: &[DeadLetterRow]) -> Vec<Line> {
    let mut lines =
        vec![Line::new().plain("  ").add(BOLD, "poison event").add(DIM, "  unreadable, and no saga waits for it")];
    for DeadLetterRow { topic, reason, message, attempts } in dead_letters {
        let why = format!("{reason} at attempt {attempts}: {message}");
        lines.push(Line::new().plain(" ".repeat(OFFSET + 4)).left(NAME, topic, PARTICIPANT + 4).add(DIM, why));
    }
    lines.push(Line::new());
    lines
}

fn entry(entry: &TimelineEntry) -> Line {
    let at = entry.at_ms.map_or("...".to_owned(), |ms| format!("+{}", duration(ms)));
    let line = Line::new().plain("  ").right(DIM, &at, OFFSET).plain("  ").left(NAME, &entry.participant, PARTICIPANT);
    let Some(event) = &entry.event else { return line.add(WARN, &entry.note) };
    let style = if entry.null_compensation { DIM } else { PLAIN };
    line.left(style, event, EVENT).add(DIM, &entry.note)
}

fn invariants(report: &Report) -> Vec<Line> {
    let mut lines = Vec::new();
    for invariant in &report.invariants {
        let mark = if invariant.holds { Line::new().add(GOOD, "  ✓ ") } else { Line::new().add(BAD, "  ✗ ") };
        lines.push(mark.left(PLAIN, invariant.invariant, INVARIANT).plain("  ").add(DIM, &invariant.numbers));
        lines.extend(invariant.violations.iter().map(|violation| Line::new().plain("      ").add(BAD, violation)));
        if invariant.invariant.starts_with("produced") {
            lines.extend(event_counts(report));
        }
    }
    lines
}

fn event_counts(report: &Report) -> Vec<Line> {
    let line = |counts: &super::invariants::EventCounts| {
        let sum =
            format!("{} = {} + {} + {}", counts.produced, counts.handled, counts.dead_lettered, counts.passed_over);
        let again = if counts.repeated > 0 { format!(" ({} repeated)", counts.repeated) } else { String::new() };
        Line::new().plain("      ").left(NAME, &counts.participant, PARTICIPANT).add(DIM, sum + &again)
    };
    report.event_counts.iter().map(line).collect()
}

fn verdict(report: &Report) -> Line {
    let took = duration(report.took_ms);
    let broken = report.invariants.iter().filter(|invariant| !invariant.holds).count();
    if report.holds {
        let all = format!("All {} invariants hold.", report.invariants.len());
        Line::new().add(GOOD.bold(), all).add(DIM, format!("  {} in {took}", count(report.orders, "order")))
    } else {
        let some = format!("{} of {} invariants do not hold.", broken, report.invariants.len());
        Line::new().add(BAD, some).add(DIM, format!("  {} in {took}", count(report.orders, "order")))
    }
}

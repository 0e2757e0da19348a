//! A saga's history as text.

use jiff::Timestamp;
use saga_core::{dead_letter::Reason, graph::How};

use super::{
    Report, Trace,
    history::{ExpectedStep, FailedCompensation, SagaHistory, Status, WaitingJoin},
    timeline_entry::{EntryKind, TimelineEntry},
};
use crate::text::{BAD, BOLD, DIM, GOOD, Line, NAME, PLAIN, WARN, count, duration};

const SINCE: usize = 12;
const PARTICIPANT: usize = 11;
const EVENT: usize = 30;

/// The whole report, line by line.
pub(super) fn lines(report: &Report, now: Timestamp) -> Vec<Line> {
    let Report { history, .. } = report;
    let mut lines = vec![title(history), Line::new()];
    let mut day = None;
    for entry in &history.timeline {
        let date = entry.at.strftime("%Y-%m-%d").to_string();
        if day.as_ref() != Some(&date) {
            lines.push(Line::new().add(DIM, format!("{date} (UTC)")));
            day = Some(date);
        }
        lines.push(line(entry));
        lines.extend(details(entry));
    }
    let mut rest = expectations(history, now);
    rest.extend(report.traces.iter().map(trace));
    if !rest.is_empty() {
        lines.push(Line::new());
        lines.append(&mut rest);
    }
    lines
}

fn trace(trace: &Trace) -> Line {
    let line = Line::new().left(DIM, "trace", PARTICIPANT).plain(&trace.url);
    if trace.carried { line } else { line.add(DIM, "  if the saga was traced; the id is the saga's") }
}

fn title(history: &SagaHistory) -> Line {
    let (style, word) = match history.status {
        Status::Completed => (GOOD, "completed"),
        Status::Compensated => (WARN, "compensated"),
        Status::PartlyCompensated => (BAD, "partly compensated"),
        Status::Unfinished => (BOLD, "unfinished"),
        Status::Contradictory => (BAD, "contradictory"),
        Status::Unknown => (BAD, "of another flow"),
    };
    let line = Line::new().plain("saga ").add(BOLD, history.saga_id.to_string()).plain("  ").add(style, word);
    let line = if let Some(end) = history.ended_by { line.add(DIM, format!(" by {end}")) } else { line };
    let line = if history.is_compensating { line.add(DIM, ", compensating") } else { line };
    match history.took_ms {
        Some(took) => line.add(DIM, format!(", in {}", duration(took))),
        None => line,
    }
}

fn line(entry: &TimelineEntry) -> Line {
    let line = Line::new()
        .add(DIM, entry.at.strftime("%H:%M:%S%.3f").to_string())
        .right(DIM, &format!("+{}", duration(entry.since_previous_ms)), SINCE)
        .plain("  ")
        .left(NAME, &entry.participant, PARTICIPANT)
        .plain(" ");
    let event = entry.event.as_deref().unwrap_or("(no type)");
    let line = match entry.what {
        EntryKind::Event if entry.null_compensation => line.left(DIM, event, EVENT),
        EntryKind::Event if entry.compensation_failed => line.left(BAD, event, EVENT),
        EntryKind::Event => line.left(PLAIN, event, EVENT),
        EntryKind::Duplicate => line.left(DIM, event, EVENT),
        EntryKind::DeadLetter | EntryKind::Unreadable => line.left(BAD, event, EVENT),
    };
    let line = line.plain(" ");
    match entry.what {
        EntryKind::Event if !entry.known => line.add(WARN, "not of this flow"),
        EntryKind::Event if entry.compensation_failed => line.add(BAD, made(entry)),
        EntryKind::Event => line.add(DIM, made(entry)),
        EntryKind::Duplicate => line.add(DIM, "duplicate: this ce_id occurred before and is handled once"),
        EntryKind::DeadLetter => line.add(BAD, blocked_by(entry)),
        EntryKind::Unreadable => {
            line.add(BAD, format!("not an event: {}", entry.fault.as_deref().unwrap_or("it cannot be read")))
        }
    }
}

/// The step that published the event, and its cause.
fn made(entry: &TimelineEntry) -> String {
    let mut text = match &entry.made_by {
        None => "published from outside".to_owned(),
        Some(made) if made.how == How::Request => "requested".to_owned(),
        Some(made) if made.how == How::Deadline => format!("{}: its deadline has passed", made.step),
        Some(made) => {
            let mut text = made.step.to_owned();
            if let Some(cause) = &entry.caused_by {
                let event = cause.event.clone().unwrap_or_else(|| format!("{} (not in the topics)", cause.event_id));
                text += &format!(", on {event}");
            }
            if let Some(action) = made.compensates {
                text += &format!(": compensates {action}");
            }
            if made.how == How::Refusal {
                text += ": refused";
            }
            text
        }
    };
    if entry.null_compensation {
        text += ", nothing to compensate";
    }
    if entry.compensation_failed {
        text += ", which failed for good";
    }
    if let Some(reason) = &entry.reason {
        text += &format!(" ({reason})");
    }
    if entry.again {
        text += "; published again under another ce_id, its step has run once";
    }
    text
}

fn blocked_by(entry: &TimelineEntry) -> String {
    let Some(dead_letter) = &entry.dead_letter else { return String::new() };
    let attempts = dead_letter.attempts.and_then(|n| usize::try_from(n).ok());
    let attempts = attempts.map(|n| format!(", {}", count(n, "attempt"))).unwrap_or_default();
    match dead_letter.step {
        Some(step) => format!("dead-lettered by {step}: {}{attempts}", dead_letter.reason),
        None => format!("dead-lettered: {}{attempts}", dead_letter.reason),
    }
}

/// Additional lines below an entry.
fn details(entry: &TimelineEntry) -> Vec<Line> {
    let indented = || Line::new().plain(" ".repeat(12 + SINCE + 2 + PARTICIPANT + 1));
    let mut lines = Vec::new();
    if let Some(dead_letter) = &entry.dead_letter {
        let first = dead_letter.first_failed_at.map(|at| format!("; first failed at {}", at.strftime("%H:%M:%S%.3f")));
        lines.push(indented().add(DIM, format!("{}{}", dead_letter.message, first.unwrap_or_default())));
        if let (Some(partition), Some(offset)) = (dead_letter.partition, dead_letter.offset) {
            lines.push(indented().add(DIM, format!("of {}/{partition} at offset {offset}", dead_letter.topic)));
        }
    }
    if let Some(data) = &entry.data {
        lines.push(indented().add(DIM, data.to_string()));
    }
    lines
}

/// Whether a dead letter with this reason parks its saga. A participant passes over an event that it cannot read.
fn parks(reason: &str) -> bool {
    [Reason::Permanent, Reason::RetriesExhausted].iter().any(|held| held.as_str() == reason)
}

fn expectations(history: &SagaHistory, now: Timestamp) -> Vec<Line> {
    let ago = |at: Timestamp| duration(now.duration_since(at).as_secs_f64() * 1000.0);
    let mut lines = Vec::new();
    if history.status == Status::Unknown {
        return vec![Line::new().add(WARN, "name its own flow with --flow to see the steps that it waits for")];
    }
    if history.started_at.is_none() {
        let text = "its start is missing: removed by retention, or written before --since";
        lines.push(Line::new().add(WARN, text));
    }
    if history.status == Status::Contradictory {
        lines.push(Line::new().add(BAD, "it has both ends, which must never happen"));
    }
    for FailedCompensation { participant, step, event, .. } in &history.failed_compensations {
        let what = step.map_or_else(|| participant.clone(), |step| format!("{participant} {step}"));
        let line = Line::new().left(BAD, "failed", PARTICIPANT).add(NAME, what);
        lines.push(line.add(
            BAD,
            format!(": its compensation failed for good ({event} says so), so what it did is still in place"),
        ));
    }
    if history.status == Status::Unfinished && history.expected.is_empty() && history.joins.is_empty() {
        lines.push(Line::new().add(WARN, "no step is expected after these events"));
    }
    for ExpectedStep { participant, step, on, alternatives, since, blocked_by, .. } in &history.expected {
        let line = Line::new().left(DIM, "expected", PARTICIPANT).add(NAME, format!("{participant} {step}"));
        let sets: Vec<String> = alternatives.iter().map(|events| events.join(" and ")).collect();
        let line = line.plain(format!(": {}", sets.join(" or "))).add(DIM, format!(", {} after {on}", ago(*since)));
        lines.push(match blocked_by {
            Some(reason) if parks(reason) => {
                line.add(BAD, format!("; blocked by a dead letter ({reason}) until an operator acts"))
            }
            Some(reason) => line.add(BAD, format!("; {on} is dead-lettered ({reason}), so the step does not run")),
            None => line,
        });
    }
    for WaitingJoin { participant, step, arrived, waits_for, since, blocked_by, .. } in &history.joins {
        let parts: Vec<String> = waits_for.iter().map(|part| part.join(" or ")).collect();
        let line = Line::new().left(DIM, "waiting", PARTICIPANT).add(NAME, format!("{participant} {step}"));
        let line = line.plain(format!(" waits for {}", parts.join(", and for ")));
        let line = line.add(DIM, format!(", {} after the first of {}", ago(*since), arrived.join(", ")));
        lines.push(match blocked_by {
            Some(reason) if parks(reason) => {
                line.add(BAD, format!("; blocked by a dead letter ({reason}) until an operator acts"))
            }
            Some(reason) => {
                line.add(BAD, format!("; an arrival is dead-lettered ({reason}), so the step does not run"))
            }
            None => line,
        });
    }
    for deadline in &history.deadlines {
        let declared = duration(deadline.declared_s * 1000.0);
        let is = if deadline.at < now { "was due at" } else { "at" };
        let participant = deadline.participant;
        let unless = match deadline.waits_for {
            "saga" => format!("{participant} ends the saga"),
            "arrivals" => format!("{participant} {} has all it waits for", deadline.step),
            _ => format!("{participant} continues"),
        };
        let at = deadline.at.strftime("%H:%M:%S");
        let text = format!("{} {is} {at}, unless {unless} before (declared deadline: {declared})", deadline.event);
        lines.push(Line::new().left(DIM, "deadline", PARTICIPANT).add(DIM, text));
    }
    lines
}

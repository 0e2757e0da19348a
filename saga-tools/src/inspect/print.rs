//! A saga's story as text.

use jiff::Timestamp;
use saga_core::{dead_letter::Reason, graph::How};

use super::{
    Report, Trace,
    moment::{Kind, Moment},
    story::{Awaited, Status, Story},
};
use crate::text::{BAD, BOLD, DIM, GOOD, Line, NAME, PLAIN, WARN, count, duration};

const SINCE: usize = 12;
const PARTICIPANT: usize = 11;
const EVENT: usize = 30;

/// Everything, line by line.
pub(super) fn lines(report: &Report, now: Timestamp) -> Vec<Line> {
    let Report { story, .. } = report;
    let mut lines = vec![title(story), Line::new()];
    let mut day = None;
    for moment in &story.timeline {
        let date = moment.at.strftime("%Y-%m-%d").to_string();
        if day.as_ref() != Some(&date) {
            lines.push(Line::new().add(DIM, format!("{date} (UTC)")));
            day = Some(date);
        }
        lines.push(line(moment));
        lines.extend(details(moment));
    }
    let mut rest = standing(story, now);
    rest.extend(report.traces.iter().map(trace));
    if !rest.is_empty() {
        lines.push(Line::new());
        lines.append(&mut rest);
    }
    lines
}

fn trace(trace: &Trace) -> Line {
    let line = Line::new().left(DIM, "trace", PARTICIPANT).plain(&trace.url);
    if trace.carried { line } else { line.add(DIM, "  if it was traced: the id is the saga's") }
}

fn title(story: &Story) -> Line {
    let (style, word) = match story.status {
        Status::Completed => (GOOD, "completed"),
        Status::Undone => (WARN, "undone"),
        Status::Unfinished => (BOLD, "unfinished"),
        Status::Contradictory => (BAD, "contradictory"),
        Status::Unknown => (BAD, "of another flow"),
    };
    let line = Line::new().plain("saga ").add(BOLD, story.saga_id.to_string()).plain("  ").add(style, word);
    let line = if let Some(end) = story.ended_by { line.add(DIM, format!(" by {end}")) } else { line };
    let line = if story.is_turning_back { line.add(DIM, ", being undone") } else { line };
    match story.took_ms {
        Some(took) => line.add(DIM, format!(", in {}", duration(took))),
        None => line,
    }
}

fn line(moment: &Moment) -> Line {
    let line = Line::new()
        .add(DIM, moment.at.strftime("%H:%M:%S%.3f").to_string())
        .right(DIM, &format!("+{}", duration(moment.since_previous_ms)), SINCE)
        .plain("  ")
        .left(NAME, &moment.participant, PARTICIPANT)
        .plain(" ");
    let event = moment.event.as_deref().unwrap_or("(no type)");
    let line = match moment.what {
        Kind::Event if moment.null_compensation => line.left(DIM, event, EVENT),
        Kind::Event => line.left(PLAIN, event, EVENT),
        Kind::Duplicate => line.left(DIM, event, EVENT),
        Kind::DeadLetter | Kind::Unreadable => line.left(BAD, event, EVENT),
    };
    let line = line.plain(" ");
    match moment.what {
        Kind::Event if !moment.known => line.add(WARN, "not of this flow: every participant passes it over"),
        Kind::Event => line.add(DIM, made(moment)),
        Kind::Duplicate => line.add(DIM, "duplicate: this ce_id was there before, and is handled once"),
        Kind::DeadLetter => line.add(BAD, given_up(moment)),
        Kind::Unreadable => {
            line.add(BAD, format!("no event: {}", moment.fault.as_deref().unwrap_or("it cannot be read")))
        }
    }
}

/// What made the event, and of what.
fn made(moment: &Moment) -> String {
    let mut text = match &moment.made_by {
        None => "published from outside".to_owned(),
        Some(made) if made.how == How::Request => "requested".to_owned(),
        Some(made) if made.how == How::Deadline => format!("{}: its deadline has passed", made.step),
        Some(made) => {
            let mut text = made.step.to_owned();
            if let Some(cause) = &moment.caused_by {
                let event = cause.event.clone().unwrap_or_else(|| format!("{} (not in the topics)", cause.event_id));
                text += &format!(", on {event}");
            }
            if let Some(undone) = made.undoes {
                text += &format!(": undoes {undone}");
            }
            if made.how == How::Refusal {
                text += ": refused";
            }
            text
        }
    };
    if moment.null_compensation {
        text += ", nothing to undo";
    }
    if let Some(reason) = &moment.reason {
        text += &format!(" ({reason})");
    }
    if moment.again {
        text += "; again, under another ce_id: its step is done once";
    }
    text
}

fn given_up(moment: &Moment) -> String {
    let Some(letter) = &moment.dead_letter else { return String::new() };
    let attempts = letter.attempts.and_then(|n| usize::try_from(n).ok());
    let attempts = attempts.map(|n| format!(", {}", count(n, "attempt"))).unwrap_or_default();
    match letter.step {
        Some(step) => format!("dead letter: {step} gave up, {}{attempts}", letter.reason),
        None => format!("dead letter: {}{attempts}", letter.reason),
    }
}

/// What does not fit in the line.
fn details(moment: &Moment) -> Vec<Line> {
    let indented = || Line::new().plain(" ".repeat(12 + SINCE + 2 + PARTICIPANT + 1));
    let mut lines = Vec::new();
    if let Some(letter) = &moment.dead_letter {
        let first = letter.first_failed_at.map(|at| format!("; first failed at {}", at.strftime("%H:%M:%S%.3f")));
        lines.push(indented().add(DIM, format!("{}{}", letter.message, first.unwrap_or_default())));
        if let (Some(partition), Some(offset)) = (letter.partition, letter.offset) {
            lines.push(indented().add(DIM, format!("of {}/{partition} at offset {offset}", letter.topic)));
        }
    }
    if let Some(data) = &moment.data {
        lines.push(indented().add(DIM, data.to_string()));
    }
    lines
}

/// Whether an event that was given up on for this reason holds its saga. One that cannot be read is passed by.
fn holds(reason: &str) -> bool {
    [Reason::Permanent, Reason::RetriesExhausted].iter().any(|held| held.as_str() == reason)
}

fn standing(story: &Story, now: Timestamp) -> Vec<Line> {
    let ago = |at: Timestamp| duration(now.duration_since(at).as_secs_f64() * 1000.0);
    let mut lines = Vec::new();
    if story.status == Status::Unknown {
        return vec![Line::new().add(WARN, "what is expected of it is for its own flow to say: name that with --flow")];
    }
    if story.started_at.is_none() {
        let text = "its start is not there: retention has taken it, or it was written before --since";
        lines.push(Line::new().add(WARN, text));
    }
    if story.status == Status::Contradictory {
        lines.push(Line::new().add(BAD, "it has ended in two ways, which must never happen"));
    }
    if story.status == Status::Unfinished && story.expected.is_empty() {
        lines.push(Line::new().add(WARN, "nobody's turn follows from what is there"));
    }
    for Awaited { participant, step, on, one_of, since, given_up, .. } in &story.expected {
        let line = Line::new().left(DIM, "expected", PARTICIPANT).add(NAME, format!("{participant} {step}"));
        let line = line.plain(format!(": {}", one_of.join(" or "))).add(DIM, format!(", {} after {on}", ago(*since)));
        lines.push(match given_up {
            Some(reason) if holds(reason) => {
                line.add(BAD, format!("; given up ({reason}), held until an operator decides"))
            }
            Some(reason) => line.add(BAD, format!("; it cannot be read there ({reason}), and nothing waits for it")),
            None => line,
        });
    }
    for deadline in &story.deadlines {
        let declared = duration(deadline.declared_s * 1000.0);
        let is = if deadline.at < now { "was due at" } else { "at" };
        let text = format!(
            "{} {is} {}, unless {} goes on before (if its deadline is the usual {declared})",
            deadline.event,
            deadline.at.strftime("%H:%M:%S"),
            deadline.participant
        );
        lines.push(Line::new().left(DIM, "deadline", PARTICIPANT).add(DIM, text));
    }
    lines
}

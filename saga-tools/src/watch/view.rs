//! A snapshot as text: a table for a terminal, or one line.

use saga_core::graph::NodeKind;

use super::snapshot::{OldestSaga, Snapshot, WaitingRow};
use crate::text::{BAD, BOLD, DIM, Line, NAME, PLAIN, WARN, count, duration};

const NAME_WIDTH: usize = 24;
/// Of a step with its participant, and with the word for a compensation.
const STEP: usize = 34;
const NUMBER: usize = 10;
const TIME: usize = 14;
const AGE: usize = 12;

fn seconds(s: f64) -> String {
    duration(s * 1000.0)
}

/// Warnings beside the numbers.
pub(super) fn remarks(now: &Snapshot) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(trouble) = &now.connection.trouble {
        remarks.push(format!("broker unreachable, retrying: {trouble}"));
    }
    if !now.connection.missing_topics.is_empty() {
        remarks.push(format!("waiting for {}", now.connection.missing_topics.join(", ")));
    }
    if now.totals.untracked > 0 {
        let (limit, untracked) = (now.limit, now.totals.untracked);
        remarks.push(format!("at most {limit} sagas are followed; {untracked} records of others were not counted"));
    }
    if now.totals.of_other_flows > 0 {
        let sagas = count(usize::try_from(now.totals.of_other_flows).unwrap_or(usize::MAX), "saga");
        let has = if now.totals.of_other_flows == 1 { "has" } else { "have" };
        remarks.push(format!("{sagas} {has} events unknown to this flow: name their flow with --flow"));
    }
    if now.totals.partly_compensated > 0 {
        let sagas = count(usize::try_from(now.totals.partly_compensated).unwrap_or(usize::MAX), "saga");
        remarks.push(format!("{sagas} ended partly compensated: `saga inspect` says what is still in place"));
    }
    if now.totals.contradictory > 0 {
        remarks.push(format!("{} both completed and compensated, which must never happen", now.totals.contradictory));
    }
    remarks
}

/// The table, most important lines first: a small terminal cuts off the end.
pub(super) fn screen(now: &Snapshot, servers: &str) -> Vec<Line> {
    let since = now.since.map_or("the beginning".to_owned(), |at| at.strftime("%H:%M:%S UTC").to_string());
    let mut title = Line::new().add(BOLD, "saga watch").add(DIM, format!("  {servers}, since {since}"));
    if !now.connection.caught_up {
        title = title.add(WARN, "  reading back ..");
    }
    let mut lines = vec![title];
    lines.extend(remarks(now).into_iter().map(|remark| Line::new().plain("  ").add(BAD, remark)));
    lines.push(Line::new());
    lines.extend(rates(now));
    lines.push(Line::new());
    let head = Line::new().plain("  ").left(DIM, "waits for", STEP).right(DIM, "sagas", NUMBER);
    lines.push(head.right(DIM, "longest", TIME).right(DIM, "blocked", NUMBER));
    lines.extend(now.waiting.iter().flat_map(|row| std::iter::once(waiting(row)).chain(missing(row))));
    lines.push(Line::new());
    if !now.oldest.is_empty() {
        let head = Line::new().plain("  ").left(DIM, "oldest unfinished", 36).right(DIM, "age", AGE);
        lines.push(head.add(DIM, "  waits for"));
        lines.extend(now.oldest.iter().map(oldest));
    }
    lines
}

fn rates(now: &Snapshot) -> Vec<Line> {
    let head = Line::new().plain("  ").left(DIM, "", NAME_WIDTH).right(DIM, "in all", NUMBER);
    let head = head.right(DIM, "per second", TIME).right(DIM, "over a minute", TIME + 2);
    let row = |name: &str, total: u64, rates: Option<(f64, f64)>| {
        let line = Line::new().plain("  ").left(PLAIN, name, NAME_WIDTH).right(BOLD, &total.to_string(), NUMBER);
        match rates {
            Some((interval, minute)) => {
                line.right(PLAIN, &format!("{interval:.1}"), TIME).right(PLAIN, &format!("{minute:.1}"), TIME + 2)
            }
            None => line,
        }
    };
    let (interval, minute) = (now.rates.interval, now.rates.minute);
    let mut lines = vec![head];
    lines.push(row("started", now.totals.started, Some((interval.started, minute.started))));
    lines.push(row("finished", now.totals.finished, Some((interval.finished, minute.finished))));
    lines.extend(now.ended.iter().map(|(end, sagas)| row(&format!("  {end}"), *sagas, None)));
    let dead_letters = Some((interval.dead_letters, minute.dead_letters));
    lines.push(row("dead letters", now.totals.dead_letters, dead_letters));
    let in_flight = u64::try_from(now.in_flight).unwrap_or(u64::MAX);
    lines.push(row("in flight", in_flight, None));
    if now.totals.forgotten > 0 {
        let why = format!("   start missing, silent for {}", seconds(now.forgets_after_s));
        lines.push(row("  forgotten", now.totals.forgotten, None).add(DIM, why));
    }
    if now.totals.foreign > 0 {
        let why = "   no participant declares them";
        lines.push(row("unknown events", now.totals.foreign, None).add(DIM, why));
    }
    lines
}

fn step(participant: Option<&str>, step: Option<&str>) -> String {
    match (participant, step) {
        (Some(participant), Some(step)) => format!("{participant} {step}"),
        _ => "no step expected".to_owned(),
    }
}

fn waiting(row: &WaitingRow) -> Line {
    let style = if row.sagas == 0 { DIM } else { NAME };
    let name = step(row.participant, row.step);
    let name = if row.kind == Some(NodeKind::Compensation) { format!("{name} (compensation)") } else { name };
    let line = Line::new().plain("  ").left(style, &name, STEP);
    if row.sagas == 0 {
        return line.right(DIM, "-", NUMBER);
    }
    let line = line.right(BOLD, &row.sagas.to_string(), NUMBER).right(PLAIN, &seconds(row.longest_s), TIME);
    if row.blocked > 0 { line.right(BAD, &row.blocked.to_string(), NUMBER) } else { line }
}

/// What a join waits for, below its row.
fn missing(row: &WaitingRow) -> Vec<Line> {
    let line = |(part, sagas): (&String, &usize)| {
        Line::new().plain("  ").left(DIM, &format!("  for {part}"), STEP).right(DIM, &sagas.to_string(), NUMBER)
    };
    row.missing.iter().map(line).collect()
}

fn oldest(saga: &OldestSaga) -> Line {
    let line = Line::new().plain("  ").plain(saga.saga_id.to_string()).right(PLAIN, &seconds(saga.age_s), AGE);
    let line = line.plain("  ").add(NAME, step(saga.participant, saga.step));
    let line = if saga.missing.is_empty() { line } else { line.add(DIM, format!(": {}", saga.missing.join(", "))) };
    // `saga inspect` shows the reason.
    if saga.blocked_by.is_some() { line.add(BAD, ", blocked") } else { line }
}

/// The snapshot in one line, for a log.
pub(super) fn line(now: &Snapshot) -> String {
    let mut text = format!(
        "{:.0}  {} in flight  started {:.1}/s  finished {:.1}/s  dead letters {}",
        now.at,
        count(now.in_flight, "saga"),
        now.rates.interval.started,
        now.rates.interval.finished,
        now.totals.dead_letters,
    );
    if now.totals.forgotten > 0 {
        text += &format!("  forgotten {}", now.totals.forgotten);
    }
    if now.totals.foreign > 0 {
        text += &format!("  unknown events {}", now.totals.foreign);
    }
    if !now.connection.caught_up {
        text += "  (reading back)";
    }
    let ended = now.ended.iter().filter(|(_, sagas)| **sagas > 0).map(|(end, sagas)| format!("{end} {sagas}"));
    let waiting = now.waiting.iter().filter(|row| row.sagas > 0);
    let waiting = waiting.map(|row| {
        let blocked = (row.blocked > 0).then(|| format!("{} blocked", row.blocked));
        let missing = row.missing.iter().map(|(part, sagas)| format!("{sagas} for {part}"));
        let more: Vec<String> = blocked.into_iter().chain(missing).collect();
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
        format!("{} {}{more}", step(row.participant, row.step), row.sagas)
    });
    for (title, list) in [("ended", ended.collect::<Vec<_>>()), ("waiting for", waiting.collect())] {
        if !list.is_empty() {
            text += &format!("  {title}: {}", list.join(", "));
        }
    }
    if let Some(saga) = now.oldest.first() {
        text += &format!("  oldest: {} {}", saga.saga_id, seconds(saga.age_s));
    }
    Line::new().plain(text).render(false, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture::{Written, time, travel_flow},
        watch::{
            rates::Rate,
            saga_table::{Limits, SagaTable},
            snapshot::{BothRates, ConnectionStatus},
        },
    };

    fn snapshot(connection: ConnectionStatus) -> Snapshot {
        let mut written = Written::chain(1, &["order.created", "inventory.reserved"]);
        written.dead_letter("payment", "inventory.reserved", 5_000);
        let mut table = SagaTable::new(&written.flow, Limits { unfinished: 10, ended: 10 });
        written.observed.iter().for_each(|observed| table.add(observed));
        let rate = Rate { seconds: 1.0, started: 12.5, ..Rate::default() };
        Snapshot::of(&table, &connection, BothRates { interval: rate, minute: rate }, (None, time(600_000)))
    }

    fn text(now: &Snapshot) -> String {
        screen(now, "localhost:9092").iter().map(|line| line.render(false, Some(79)) + "\n").collect()
    }

    #[test]
    fn the_table_shows_the_steps_waited_for_and_since_when() {
        let text = text(&snapshot(ConnectionStatus { caught_up: true, ..ConnectionStatus::default() }));
        for row in [
            "payment charge                             1    9 min 59 s         1",
            "12.5",
            "inventory release (compensation)",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
        assert!(text.contains("00000000-0000-0000-0000-000000000001 10 min 00 s  payment charge, blocked"), "{text}");
        assert!(text.lines().count() < 24, "{text}");
    }

    #[test]
    fn a_join_shows_how_many_sagas_lack_which_part() {
        let mut table = SagaTable::new(&travel_flow(), Limits { unfinished: 10, ended: 10 });
        let mut written = Written::of(travel_flow(), 1);
        written.event("trip.requested", None, 0);
        written.event("flight.reserved", Some("trip.requested"), 1_000);
        written.observed.iter().for_each(|observed| table.add(observed));
        let rates = BothRates { interval: Rate::default(), minute: Rate::default() };
        let connection = ConnectionStatus { caught_up: true, ..ConnectionStatus::default() };
        let now = Snapshot::of(&table, &connection, rates, (None, time(61_000)));
        let text = text(&now);
        for row in [
            "  payment charge                             1        60.0 s\n    for car.reserved                         1\n",
            "    for hotel.reserved                       1\n",
            // As wide as the terminal.
            "payment charge: hotel.reser\n",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
        let waits = "waiting for: payment charge 1 (1 for car.reserved, 1 for hotel.reserved)  oldest";
        assert!(line(&now).contains(waits), "{}", line(&now));
    }

    #[test]
    fn forgotten_sagas_are_shown() {
        let mut now = snapshot(ConnectionStatus { caught_up: true, ..ConnectionStatus::default() });
        assert!(!text(&now).contains("forgotten") && !line(&now).contains("forgotten"));
        now.totals.forgotten = 12;
        assert!(text(&now).contains("  forgotten                     12   start missing, silent for 15 min 00 s\n"));
        assert!(line(&now).contains("dead letters 1  forgotten 12"));
    }

    #[test]
    fn events_that_no_participant_declares_are_shown() {
        let mut now = snapshot(ConnectionStatus { caught_up: true, ..ConnectionStatus::default() });
        assert!(!text(&now).contains("unknown events") && !line(&now).contains("unknown events"));
        now.totals.foreign = 12;
        assert!(text(&now).contains("  unknown events                  12   no participant declares them\n"));
        assert!(line(&now).contains("  unknown events 12"));
    }

    #[test]
    fn warnings_are_at_the_top() {
        let connection =
            ConnectionStatus { trouble: Some("Connection refused".to_owned()), ..ConnectionStatus::default() };
        let text = text(&snapshot(connection));
        assert!(text.lines().next().unwrap().ends_with("reading back .."), "{text}");
        assert!(text.lines().nth(1).unwrap().contains("Connection refused"), "{text}");
    }

    #[test]
    fn a_line_holds_everything() {
        let line = line(&snapshot(ConnectionStatus { caught_up: true, ..ConnectionStatus::default() }));
        assert!(line.contains("1 saga in flight  started 12.5/s"), "{line}");
        assert!(line.contains("dead letters 1  waiting for: payment charge 1 (1 blocked)  oldest: "), "{line}");
    }
}

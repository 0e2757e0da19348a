//! Histories built from records in memory.

mod joins;

use super::{
    history::{SagaHistory, Status, history_of},
    text as page,
    timeline_entry::{EntryKind, TimelineEntry},
};
use crate::{
    fixture::{TRACE, Written, time, with_mail},
    observed_record::RecordContent,
};

const CONFIRMED: [&str; 5] =
    ["order.created", "inventory.reserved", "payment.charged", "shipping.scheduled", "order.confirmed"];

fn written_history(written: &Written) -> SagaHistory {
    history_of(&written.flow, written.saga, written.observed.clone())
}

fn report(history: SagaHistory) -> super::Report {
    let read = super::Reading { records: 0, partitions: "all", since: None, missing_topics: Vec::new() };
    super::Report::of(history, read, |id| format!("https://traces.example/{id}"))
}

fn text(history: SagaHistory) -> String {
    let lines = page::lines(&report(history), time(60_000));
    lines.iter().map(|line| line.render(false, None) + "\n").collect()
}

fn traces(history: SagaHistory) -> Vec<(String, bool)> {
    history.traces.into_iter().map(|trace| (trace.id, trace.is_carried)).collect()
}

fn events(history: &SagaHistory) -> Vec<&str> {
    history.timeline.iter().filter_map(|entry| entry.event.as_deref()).collect()
}

fn only(history: &SagaHistory, what: EntryKind) -> &TimelineEntry {
    let found: Vec<_> = history.timeline.iter().filter(|entry| entry.what == what).collect();
    assert_eq!(found.len(), 1, "{what:?}");
    found[0]
}

#[test]
fn a_completed_saga_shows_what_published_each_event_and_how_long_it_took() {
    let history = written_history(&Written::chain(1, &CONFIRMED));
    assert_eq!(
        (history.status, history.ended_by, history.took_ms),
        (Status::Completed, Some("order.confirmed"), Some(400.0))
    );
    assert!(history.expected.is_empty() && history.deadlines.is_empty());
    assert_eq!(traces(history.clone()), [(TRACE.to_owned(), true)]);
    let charged = &history.timeline[2];
    let made = charged.made_by.as_ref().unwrap();
    let cause = charged.caused_by.as_ref().unwrap().event.as_deref();
    assert_eq!((charged.participant.as_str(), made.step, cause), ("payment", "charge", Some("inventory.reserved")));
    assert_eq!(charged.since_previous_ms, 100.0);
    let text = text(history);
    assert!(text.contains("completed by order.confirmed, in 400 ms"), "{text}");
    assert!(text.contains("charge, on inventory.reserved") && !text.contains("Ada"), "{text}");
}

#[test]
fn the_order_of_reading_and_wrong_clocks_do_not_matter() {
    let mut written = Written::chain(1, &CONFIRMED);
    written.observed.reverse();
    assert_eq!(events(&written_history(&written)), CONFIRMED);
    let mut written = Written::new(1);
    written.event("order.created", None, 500);
    written.event("inventory.reserved", Some("order.created"), 100);
    written.event("payment.charged", Some("inventory.reserved"), 550);
    let history = written_history(&written);
    assert_eq!(events(&history), CONFIRMED[..3]);
    assert!(history.timeline.iter().all(|entry| entry.since_previous_ms >= 0.0));
}

#[test]
fn a_cycle_of_causes_is_shown_as_it_was_written() {
    let written = Written::chain(1, &["order.created"]);
    let of_a_circle = |place: usize| {
        let mut observed = written.observed[0].clone();
        let RecordContent::Event(event) = &mut observed.content else { panic!("an event") };
        event.id = place.to_string();
        event.cause = Some(((place + 1) % 20_000).to_string());
        event.at = time(-i64::try_from(place).unwrap());
        observed.offset = i64::try_from(place).unwrap();
        observed
    };
    let history = history_of(&written.flow, written.saga, (0..20_000).map(of_a_circle).collect());
    assert!(history.timeline.iter().map(|entry| entry.record.offset).eq(0..20_000));
    assert!(history.timeline.iter().all(|entry| entry.at == time(0)));
}

#[test]
fn an_unfinished_saga_shows_the_expected_step_and_since_when() {
    let history = written_history(&Written::chain(1, &CONFIRMED[..2]));
    assert_eq!((history.status, history.ended_at), (Status::Unfinished, None));
    let awaited = &history.expected[0];
    assert_eq!((awaited.participant, awaited.step, awaited.since), ("payment", "charge", time(100)));
    assert_eq!(
        (awaited.one_of.as_slice(), awaited.on),
        (["payment.charged", "payment.declined"].as_slice(), "inventory.reserved")
    );
    assert_eq!(history.deadlines[0].at, time(300_000));
    let text = text(history);
    assert!(
        text.contains("payment charge: payment.charged or payment.declined, 59.9 s after inventory.reserved"),
        "{text}"
    );
}

#[test]
fn a_refusal_and_its_compensations_are_shown() {
    let history = written_history(&Written::chain(
        1,
        &["order.created", "inventory.reserved", "payment.declined", "inventory.released"],
    ));
    assert!(history.status == Status::Unfinished && history.is_compensating);
    let text = text(history);
    assert!(text.contains("charge, on inventory.reserved: refused (out_of_stock)"), "{text}");
    assert!(text.contains("release, on payment.declined: compensates reserve"), "{text}");
    assert!(text.contains("expected   order cancel: order.cancelled"), "{text}");
}

#[test]
fn a_null_compensation_is_marked() {
    let mut written = Written::chain(1, &["order.created", "order.cancellation_requested"]);
    written.null("shipping.cancelled", Some("order.cancellation_requested"), 300);
    let history = written_history(&written);
    assert!(history.timeline[2].null_compensation);
    assert!(text(history).contains("compensates schedule, nothing to compensate"));
}

#[test]
fn a_compensation_that_failed_for_good_is_named_and_the_saga_is_not_called_compensated() {
    let mut written = Written::chain(1, &["order.created", "inventory.reserved", "payment.declined"]);
    written.partly("inventory.released", Some("payment.declined"), 300, true);
    assert_eq!(written_history(&written).status, Status::Unfinished);
    written.partly("order.cancelled", Some("inventory.released"), 400, false);
    let history = written_history(&written);
    assert_eq!((history.status, history.ended_by), (Status::PartlyCompensated, Some("order.cancelled")));
    let failed = &history.failed_compensations[..];
    assert_eq!(
        failed.iter().map(|f| (f.participant.as_str(), f.step)).collect::<Vec<_>>(),
        [("inventory", Some("reserve"))]
    );
    let json = serde_json::to_value(&history).unwrap();
    assert_eq!(
        (&json["status"], &json["timeline"][4]["compensation_failed"]),
        (&"partly_compensated".into(), &false.into())
    );
    assert!(!report(history.clone()).is_well());
    let text = text(history);
    assert!(text.contains("partly compensated by order.cancelled"), "{text}");
    assert!(text.contains("compensates reserve, which failed for good"), "{text}");
    assert!(text.contains("failed     inventory reserve: its compensation failed for good"), "{text}");
}

#[test]
fn a_duplicate_stands_where_it_was_written_and_changes_nothing() {
    let mut written = Written::chain(1, &CONFIRMED);
    written.duplicate("order.created", None, 0, 350);
    let history = written_history(&written);
    assert_eq!((history.status, history.timeline.len()), (Status::Completed, 6));
    assert_eq!((only(&history, EntryKind::Duplicate).at, history.timeline[4].what), (time(350), EntryKind::Duplicate));
}

#[test]
fn an_event_of_no_participant_is_shown_and_changes_nothing() {
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    written.foreign("order.\u{1b}[2Jviewed", 200);
    written.poison(300);
    let history = written_history(&written);
    assert_eq!(history.expected[0].step, "charge");
    assert!(!history.timeline[2].known);
    assert!(only(&history, EntryKind::Unreadable).fault.as_deref().unwrap().starts_with("missing_type"));
    let text = text(history);
    assert!(text.contains("not of this flow") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_dead_letter_shows_the_event_the_step_and_that_the_saga_is_blocked() {
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    written.dead_letter("payment", "inventory.reserved", 9_000);
    let history = written_history(&written);
    let dead_letter = only(&history, EntryKind::DeadLetter).dead_letter.clone().unwrap();
    assert_eq!(
        (dead_letter.attempts, dead_letter.first_failed_at, dead_letter.step),
        (Some(10), Some(time(8_950)), Some("charge"))
    );
    assert_eq!(
        (dead_letter.topic.as_str(), dead_letter.partition, dead_letter.offset),
        ("inventory.events", Some(3), Some(1))
    );
    assert_eq!(history.expected[0].blocked_by.as_deref(), Some("retries_exhausted"));
    let text = text(history);
    assert!(text.contains("dead-lettered by charge: retries_exhausted, 10 attempts"), "{text}");
    assert!(text.contains("blocked by a dead letter (retries_exhausted) until an operator acts"), "{text}");
}

#[test]
fn an_unreadable_event_does_not_block_its_saga() {
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    written.forged_dead_letter("payment", "inventory.reserved", "undecodable", 9_000);
    let text = text(written_history(&written));
    assert!(text.contains("inventory.reserved is dead-lettered (undecodable), so the step does not run"), "{text}");
    assert!(!text.contains("operator"), "{text}");
}

#[test]
fn a_missing_start_is_shown() {
    let mut written = Written::new(1);
    written.event("payment.charged", Some("inventory.reserved"), 0);
    let history = written_history(&written);
    assert_eq!((history.started_at, history.expected[0].step), (None, "schedule"));
    let text = text(history);
    assert!(text.contains("(not in the topics)") && text.contains("its start is missing"), "{text}");
}

#[test]
fn events_without_a_context_are_in_the_trace_that_has_the_sagas_id() {
    let mut written = Written::new(7);
    written.bare("order.created", 0);
    let id = "00000000000000000000000000000007";
    assert_eq!(traces(written_history(&written)), [(id.to_owned(), false)]);
    // An event with a context is in the trace that it carries.
    written.event("inventory.reserved", Some("order.created"), 100);
    assert_eq!(traces(written_history(&written)), [(TRACE.to_owned(), true), (id.to_owned(), false)]);
    // An event that the flow does not know is never handled, so it has no trace.
    let mut foreign = Written::new(7);
    foreign.bare("order.created", 0);
    let RecordContent::Event(event) = &mut foreign.observed[0].content else { panic!("an event") };
    event.kind = "order.viewed".to_owned();
    assert!(traces(written_history(&foreign)).is_empty());
}

#[test]
fn a_dead_letter_keeps_the_trace_of_an_event_that_is_gone() {
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    written.dead_letter("payment", "inventory.reserved", 9_000);
    written.observed.drain(..2);
    assert_eq!(traces(written_history(&written)), [(TRACE.to_owned(), true)]);
}

#[test]
fn the_last_line_links_to_the_trace() {
    let last = |written: &Written| text(written_history(written)).lines().last().map(str::to_owned);
    let chain = Written::chain(1, &CONFIRMED);
    assert_eq!(last(&chain), Some(format!("trace      https://traces.example/{TRACE}")));
    let mut written = Written::new(7);
    written.bare("order.created", 0);
    let expected = "trace      https://traces.example/00000000000000000000000000000007  if the saga was traced; the id is the saga's";
    assert_eq!(last(&written).as_deref(), Some(expected));
}

#[test]
fn data_is_shown_only_when_it_is_asked_for() {
    let written = Written::chain(1, &CONFIRMED[..1]);
    assert!(written_history(&written).timeline[0].data.is_none());
    let history = history_of(&written.flow, written.saga, written.with_data());
    assert_eq!(history.timeline[0].data.as_ref().unwrap()["name"], "Ada Lovelace");
}

#[test]
fn a_saga_of_another_flow_is_shown_without_expected_steps() {
    let mut written = Written::new(1);
    // The other flow also has a `payment`.
    written.event("payment.charged", None, 100);
    written.foreign("trip.requested", 0);
    let history = written_history(&written);
    assert_eq!(
        (history.status, history.unknown_events.as_slice()),
        (Status::Unknown, ["trip.requested".to_owned()].as_slice())
    );
    assert!(history.expected.is_empty() && history.deadlines.is_empty() && history.ended_by.is_none());
    assert!(history.timeline.iter().all(|entry| !entry.known && entry.made_by.is_none()));
    let text = text(history);
    assert!(text.contains("of another flow") && text.contains("--flow") && !text.contains("schedule"), "{text}");
}

#[test]
fn an_event_without_the_saga_id_in_its_data_belongs_to_another_flow() {
    let mut written = Written::chain(1, &CONFIRMED[..3]);
    written.observed.drain(..2);
    let RecordContent::Event(event) = &mut written.observed[0].content else { panic!("an event") };
    event.saga_fields = Some(vec!["trip_id".to_owned()]);
    let history = written_history(&written);
    assert_eq!((history.status, history.unknown_events), (Status::Unknown, vec!["payment.charged".to_owned()]));
}

#[test]
fn an_unknown_event_of_a_newer_participant_leaves_the_rest_explained() {
    let mut written = Written::chain(1, &CONFIRMED);
    written.foreign("order.priced", 50);
    let history = written_history(&written);
    assert_eq!((history.status, history.unknown_events), (Status::Completed, vec!["order.priced".to_owned()]));
}

#[test]
fn an_undeclared_start_is_a_start() {
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    let mut flow = written.flow.to_json();
    flow["participants"][0]["publishes"] = serde_json::json!([]);
    written.flow = saga_core::graph::Choreography::from_json(flow.to_string().as_bytes()).unwrap();
    let history = written_history(&written);
    assert!(history.started_at.is_some() && !history.is_compensating);
    assert_eq!((history.status, history.expected[0].step), (Status::Unfinished, "charge"));
}

#[test]
fn a_step_that_publishes_several_events_is_expected_until_all_of_them_are_there() {
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    written.flow = with_mail();
    let history = written_history(&written);
    assert_eq!(history.expected[0].one_of, ["payment.charged", "receipt.wanted", "payment.declined"]);
    let text = text(history);
    assert!(text.contains("charge: payment.charged and receipt.wanted or payment.declined, "), "{text}");
    written.event("payment.charged", Some("inventory.reserved"), 300);
    let expected: Vec<_> = written_history(&written).expected.iter().map(|e| (e.step, e.one_of.clone())).collect();
    assert!(expected.contains(&("charge", vec!["receipt.wanted"])), "{expected:?}");
}

#[test]
fn a_saga_does_not_wait_for_an_optional_participant_that_dead_lettered_its_event() {
    let mut written = Written::chain(1, &CONFIRMED[..3]);
    written.flow = with_mail();
    written.event("receipt.wanted", Some("inventory.reserved"), 250);
    written.dead_letter("mail", "payment.charged", 9_000);
    let history = written_history(&written);
    assert_eq!(history.expected.iter().map(|expected| expected.step).collect::<Vec<_>>(), ["schedule"]);
    let text = text(history);
    assert!(text.contains("dead-lettered by tell: retries_exhausted"), "{text}");
    assert!(!text.contains("blocked by a dead letter"), "{text}");
}

//! Stories, told from records in memory.

use super::{
    moment::{Kind, Moment},
    print, story,
    story::{Status, Story, tell},
};
use crate::{
    fixture::{TRACE, Written, time},
    seen::What,
};

const CONFIRMED: [&str; 5] =
    ["order.created", "inventory.reserved", "payment.charged", "shipping.scheduled", "order.confirmed"];

fn told(written: &Written) -> Story {
    tell(&written.flow, written.saga, written.seen.clone())
}

fn text(story: Story) -> String {
    let read = super::Reading { records: 0, partitions: "all", since: None, missing_topics: Vec::new() };
    let report = super::Report::of(story, read, |id| format!("https://traces.example/{id}"));
    let lines = print::lines(&report, time(60_000));
    lines.iter().map(|line| line.render(false, None) + "\n").collect()
}

fn traces(story: Story) -> Vec<(String, bool)> {
    story.traces.into_iter().map(|trace| (trace.id, trace.is_carried)).collect()
}

fn events(story: &Story) -> Vec<&str> {
    story.timeline.iter().filter_map(|moment| moment.event.as_deref()).collect()
}

fn only(story: &Story, what: Kind) -> &Moment {
    let found: Vec<_> = story.timeline.iter().filter(|moment| moment.what == what).collect();
    assert_eq!(found.len(), 1, "{what:?}");
    found[0]
}

#[test]
fn a_completed_saga_says_what_made_each_event_and_how_long_it_took() {
    let story = told(&Written::chain(1, &CONFIRMED));
    assert_eq!(
        (story.status, story.ended_by, story.took_ms),
        (Status::Completed, Some("order.confirmed"), Some(400.0))
    );
    assert!(story.expected.is_empty() && story.deadlines.is_empty());
    assert_eq!(traces(story.clone()), [(TRACE.to_owned(), true)]);
    let charged = &story.timeline[2];
    let made = charged.made_by.as_ref().unwrap();
    let cause = charged.caused_by.as_ref().unwrap().event.as_deref();
    assert_eq!((charged.participant.as_str(), made.step, cause), ("payment", "charge", Some("inventory.reserved")));
    assert_eq!(charged.since_previous_ms, 100.0);
    let text = text(story);
    assert!(text.contains("completed by order.confirmed, in 400 ms"), "{text}");
    assert!(text.contains("charge, on inventory.reserved") && !text.contains("Ada"), "{text}");
}

#[test]
fn the_order_of_reading_and_wrong_clocks_do_not_matter() {
    let mut written = Written::chain(1, &CONFIRMED);
    written.seen.reverse();
    assert_eq!(events(&told(&written)), CONFIRMED);
    let mut written = Written::new(1);
    written.event("order.created", None, 500);
    written.event("inventory.reserved", Some("order.created"), 100);
    written.event("payment.charged", Some("inventory.reserved"), 550);
    let story = told(&written);
    assert_eq!(events(&story), CONFIRMED[..3]);
    assert!(story.timeline.iter().all(|moment| moment.since_previous_ms >= 0.0));
}

#[test]
fn what_causes_itself_is_told_as_it_was_written() {
    let written = Written::chain(1, &["order.created"]);
    let of_a_circle = |place: usize| {
        let mut seen = written.seen[0].clone();
        let What::Event(event) = &mut seen.what else { panic!("an event") };
        event.id = place.to_string();
        event.cause = Some(((place + 1) % 20_000).to_string());
        event.at = time(-i64::try_from(place).unwrap());
        seen.offset = i64::try_from(place).unwrap();
        seen
    };
    let story = tell(&written.flow, written.saga, (0..20_000).map(of_a_circle).collect());
    assert!(story.timeline.iter().map(|moment| moment.record.offset).eq(0..20_000));
    assert!(story.timeline.iter().all(|moment| moment.at == time(0)));
}

#[test]
fn an_unfinished_saga_says_whose_turn_it_is_and_since_when() {
    let story = told(&Written::chain(1, &CONFIRMED[..2]));
    assert_eq!((story.status, story.ended_at), (Status::Unfinished, None));
    let awaited = &story.expected[0];
    assert_eq!((awaited.participant, awaited.step, awaited.since), ("payment", "charge", time(100)));
    assert_eq!(
        (awaited.one_of.as_slice(), awaited.on),
        (["payment.charged", "payment.declined"].as_slice(), "inventory.reserved")
    );
    assert_eq!(story.deadlines[0].at, time(300_000));
    let text = text(story);
    assert!(
        text.contains("payment charge: payment.charged or payment.declined, 59.9 s after inventory.reserved"),
        "{text}"
    );
}

#[test]
fn a_refusal_and_what_it_undoes_are_told_as_such() {
    let story =
        told(&Written::chain(1, &["order.created", "inventory.reserved", "payment.declined", "inventory.released"]));
    assert!(story.status == Status::Unfinished && story.is_turning_back);
    let text = text(story);
    assert!(text.contains("charge, on inventory.reserved: refused (out_of_stock)"), "{text}");
    assert!(text.contains("release, on payment.declined: undoes reserve"), "{text}");
    assert!(text.contains("expected   order cancel: order.cancelled"), "{text}");
}

#[test]
fn a_null_compensation_is_marked() {
    let mut written = Written::chain(1, &["order.created", "order.cancellation_requested"]);
    written.null("shipping.cancelled", Some("order.cancellation_requested"), 300);
    let story = told(&written);
    assert!(story.timeline[2].null_compensation);
    assert!(text(story).contains("undoes schedule, nothing to undo"));
}

#[test]
fn a_duplicate_stands_where_it_was_written_and_changes_nothing() {
    let mut written = Written::chain(1, &CONFIRMED);
    written.duplicate("order.created", None, 0, 350);
    let story = told(&written);
    assert_eq!((story.status, story.timeline.len()), (Status::Completed, 6));
    assert_eq!((only(&story, Kind::Duplicate).at, story.timeline[4].what), (time(350), Kind::Duplicate));
}

#[test]
fn what_is_not_of_the_flow_is_shown_and_moves_nothing() {
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    written.foreign("order.\u{1b}[2Jviewed", 200);
    written.poison(300);
    let story = told(&written);
    assert_eq!(story.expected[0].step, "charge");
    assert!(!story.timeline[2].known);
    assert!(only(&story, Kind::Unreadable).fault.as_deref().unwrap().starts_with("missing_type"));
    let text = text(story);
    assert!(text.contains("not of this flow") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_dead_letter_says_who_gave_up_on_what_and_that_nobody_goes_on() {
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    written.dead_letter("payment", "inventory.reserved", 9_000);
    let story = told(&written);
    let letter = only(&story, Kind::DeadLetter).dead_letter.clone().unwrap();
    assert_eq!((letter.attempts, letter.first_failed_at, letter.step), (Some(10), Some(time(8_950)), Some("charge")));
    assert_eq!((letter.topic.as_str(), letter.partition, letter.offset), ("inventory.events", Some(3), Some(1)));
    assert_eq!(story.expected[0].given_up.as_deref(), Some("retries_exhausted"));
    let text = text(story);
    assert!(text.contains("dead letter: charge gave up, retries_exhausted, 10 attempts"), "{text}");
    assert!(text.contains("given up (retries_exhausted), held until an operator decides"), "{text}");
}

#[test]
fn an_event_that_cannot_be_read_is_not_said_to_hold_its_saga() {
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    written.forged_letter("payment", "inventory.reserved", "undecodable", 9_000);
    let text = text(told(&written));
    assert!(text.contains("it cannot be read there (undecodable), and nothing waits for it"), "{text}");
    assert!(!text.contains("operator"), "{text}");
}

#[test]
fn a_missing_start_is_said() {
    let mut written = Written::new(1);
    written.event("payment.charged", Some("inventory.reserved"), 0);
    let story: story::Story = told(&written);
    assert_eq!((story.started_at, story.expected[0].step), (None, "schedule"));
    let text = text(story);
    assert!(text.contains("(not in the topics)") && text.contains("its start is not there"), "{text}");
}

#[test]
fn events_without_a_context_are_in_the_trace_that_has_the_sagas_id() {
    let mut written = Written::new(7);
    written.bare("order.created", 0);
    let id = "00000000000000000000000000000007";
    assert_eq!(traces(told(&written)), [(id.to_owned(), false)]);
    // What follows says so itself, or is in a trace of its own.
    written.event("inventory.reserved", Some("order.created"), 100);
    assert_eq!(traces(told(&written)), [(TRACE.to_owned(), true), (id.to_owned(), false)]);
    // Nobody handles what is not of the flow.
    let mut foreign = Written::new(7);
    foreign.bare("order.created", 0);
    let What::Event(event) = &mut foreign.seen[0].what else { panic!("an event") };
    event.kind = "order.viewed".to_owned();
    assert!(traces(told(&foreign)).is_empty());
}

#[test]
fn a_dead_letter_keeps_the_trace_of_an_event_that_is_gone() {
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    written.dead_letter("payment", "inventory.reserved", 9_000);
    written.seen.drain(..2);
    assert_eq!(traces(told(&written)), [(TRACE.to_owned(), true)]);
}

#[test]
fn the_last_line_links_to_the_trace() {
    let last = |written: &Written| text(told(written)).lines().last().map(str::to_owned);
    let chain = Written::chain(1, &CONFIRMED);
    assert_eq!(last(&chain), Some(format!("trace      https://traces.example/{TRACE}")));
    let mut written = Written::new(7);
    written.bare("order.created", 0);
    let expected =
        "trace      https://traces.example/00000000000000000000000000000007  if it was traced: the id is the saga's";
    assert_eq!(last(&written).as_deref(), Some(expected));
}

#[test]
fn data_is_shown_only_when_it_is_asked_for() {
    let written = Written::chain(1, &CONFIRMED[..1]);
    assert!(told(&written).timeline[0].data.is_none());
    let story = tell(&written.flow, written.saga, written.with_data());
    assert_eq!(story.timeline[0].data.as_ref().unwrap()["name"], "Ada Lovelace");
}

#[test]
fn a_saga_of_another_flow_is_shown_and_nothing_is_said_to_be_expected_of_it() {
    let mut written = Written::new(1);
    // The other flow has a payment too.
    written.event("payment.charged", None, 100);
    written.foreign("trip.requested", 0);
    let story = told(&written);
    assert_eq!(
        (story.status, story.unknown_events.as_slice()),
        (Status::Unknown, ["trip.requested".to_owned()].as_slice())
    );
    assert!(story.expected.is_empty() && story.deadlines.is_empty() && story.ended_by.is_none());
    assert!(story.timeline.iter().all(|moment| !moment.known && moment.made_by.is_none()));
    let text = text(story);
    assert!(text.contains("of another flow") && text.contains("--flow") && !text.contains("schedule"), "{text}");
}

#[test]
fn an_event_whose_data_does_not_hold_its_saga_is_not_of_this_flow() {
    let mut written = Written::chain(1, &CONFIRMED[..3]);
    written.seen.drain(..2);
    let What::Event(event) = &mut written.seen[0].what else { panic!("an event") };
    event.saga_fields = vec!["trip_id".to_owned()];
    let story = told(&written);
    assert_eq!((story.status, story.unknown_events), (Status::Unknown, vec!["payment.charged".to_owned()]));
}

#[test]
fn what_a_newer_participant_publishes_takes_nothing_from_what_is_known() {
    let mut written = Written::chain(1, &CONFIRMED);
    written.foreign("order.priced", 50);
    let story = told(&written);
    assert_eq!((story.status, story.unknown_events), (Status::Completed, vec!["order.priced".to_owned()]));
}

#[test]
fn a_start_that_nobody_declares_is_a_start() {
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    let mut flow = written.flow.to_json();
    flow["participants"][0]["publishes"] = serde_json::json!([]);
    written.flow = saga_core::graph::Choreography::from_json(flow.to_string().as_bytes()).unwrap();
    let story = told(&written);
    assert!(story.started_at.is_some() && !story.is_turning_back);
    assert_eq!((story.status, story.expected[0].step), (Status::Unfinished, "charge"));
}

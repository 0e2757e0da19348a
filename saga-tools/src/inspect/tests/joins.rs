//! Histories of sagas with a fork and joins.

use super::*;
use crate::fixture::travel_flow;

const REQUESTED: &str = "trip.requested";
const RESERVED: [&str; 3] = ["flight.reserved", "hotel.reserved", "car.reserved"];
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// A trip with these events after its request, a second apart, all caused by one of them.
fn trip(events: &[&str], cause: &str) -> Written {
    let mut written = Written::of(travel_flow(), 1);
    written.event(REQUESTED, None, 0);
    for (place, event) in events.iter().enumerate() {
        let cause = if *event == cause { REQUESTED } else { cause };
        written.event(event, Some(cause), 1000 * (1 + i64::try_from(place).unwrap()));
    }
    written
}

fn waiting(history: &SagaHistory) -> Vec<(&str, Vec<Vec<&str>>)> {
    history.joins.iter().map(|join| (join.step, join.waits_for.clone())).collect()
}

fn expected(history: &SagaHistory) -> Vec<(&str, &str)> {
    history.expected.iter().map(|e| (e.participant, e.step)).collect()
}

/// Event, kind and time of each deadline.
fn deadlines(history: &SagaHistory) -> Vec<(&str, &str, i64)> {
    let at = |d: &super::super::history::Deadline| d.at.duration_since(time(0)).as_secs();
    history.deadlines.iter().map(|d| (d.event, d.waits_for, at(d))).collect()
}

const OF_TRIP: (&str, &str, i64) = ("trip.cancellation_requested", "saga", 1800);

#[test]
fn a_waiting_join_shows_its_missing_parts_and_its_deadline_in_every_order_of_arrivals() {
    for order in ORDERS {
        let parts = order.map(|place| RESERVED[place]);
        for arrived in 1..3 {
            let history = written_history(&trip(&parts[..arrived], REQUESTED));
            assert_eq!(history.status, Status::Unfinished);
            let missing: Vec<Vec<&str>> =
                RESERVED.iter().filter(|part| !parts[..arrived].contains(part)).map(|part| vec![*part]).collect();
            assert_eq!(waiting(&history), [("charge", missing)]);
            let join = &history.joins[0];
            assert_eq!((join.arrived.as_slice(), join.since), (&parts[..arrived], time(1000)));
            assert!(!expected(&history).contains(&("payment", "charge")), "{parts:?}");
            // From the first arrival on.
            assert_eq!(deadlines(&history), [OF_TRIP, ("payment.expired", "arrivals", 301)]);
        }
        let history = written_history(&trip(&parts, REQUESTED));
        assert_eq!((waiting(&history), expected(&history)), (vec![], vec![("payment", "charge")]));
        let charge = &history.expected[0];
        assert_eq!((charge.on, charge.since), (parts[2], time(3000)), "the last part starts it");
        let charged = written_history(&trip(&[&parts[..], &["payment.charged"]].concat(), REQUESTED));
        assert_eq!((expected(&charged), deadlines(&charged)), (vec![("trip", "confirm")], vec![OF_TRIP]));
    }
}

#[test]
fn an_arrival_is_no_step_of_its_own_and_the_text_says_what_the_join_waits_for() {
    let history = written_history(&trip(&["car.reserved", "flight.reserved"], REQUESTED));
    assert_eq!(history.timeline.len(), 3, "one line for each event");
    let text = text(history);
    assert!(text.contains("waiting    payment charge waits for hotel.reserved, 59.0 s after the first of car.reserved, flight.reserved\n"), "{text}");
    assert!(
        text.contains("deadline   payment.expired at 22:18:21, unless payment charge has all it waits for before"),
        "{text}"
    );
    assert!(text.contains("expected   hotel reserve: hotel.reserved or hotel.rejected, "), "{text}");
    assert!(!text.contains("no step is expected"), "{text}");
}

#[test]
fn the_text_names_the_alternatives_of_each_part() {
    let text = text(written_history(&trip(&["flight.rejected", "payment.refunded"], "flight.rejected")));
    let line =
        "waiting    trip cancel waits for hotel.rejected or hotel.released, and for car.rejected or car.released, ";
    assert!(text.contains(line), "{text}");
}

#[test]
fn a_join_of_compensations_waits_in_every_order_of_releases() {
    let released = ["flight.released", "hotel.released", "car.released"];
    for order in ORDERS {
        let events = order.map(|place| released[place]);
        let seen = |count: usize| {
            let events = [&["hotel.rejected", "payment.refunded"], &events[..count]].concat();
            written_history(&trip(&events, "hotel.rejected"))
        };
        for count in 0..=3 {
            let history = seen(count);
            let is_left = |name: &&str| !events[..count].contains(name) && *name != "hotel.released";
            let missing: Vec<&str> = released.iter().filter(|name| is_left(name)).copied().collect();
            let last: Vec<&str> = history.joins.iter().flat_map(|j| &j.waits_for).map(|part| part[1]).collect();
            // The hotel has refused, which is its part, and its null compensation adds nothing.
            assert_eq!(last, missing, "{events:?} {count}");
            assert_eq!(expected(&history).contains(&("trip", "cancel")), missing.is_empty());
            assert!(history.is_compensating && deadlines(&history).iter().all(|(_, kind, _)| *kind == "saga"));
        }
    }
}

#[test]
fn a_closed_join_waits_for_nothing() {
    for closing in ["payment.refunded", "payment.expired", "trip.cancelled"] {
        let history = written_history(&trip(&["flight.reserved", closing], REQUESTED));
        assert!(history.joins.iter().all(|join| join.step != "charge"), "{closing}");
        assert!(deadlines(&history).iter().all(|(_, kind, _)| *kind != "arrivals"), "{closing}");
    }
}

#[test]
fn an_arrival_that_is_dead_lettered_blocks_its_join() {
    let mut written = trip(&["car.reserved", "hotel.reserved"], REQUESTED);
    written.dead_letter("payment", "hotel.reserved", 9_000);
    let history = written_history(&written);
    assert_eq!(history.joins[0].blocked_by.as_deref(), Some("retries_exhausted"));
    assert_eq!(only(&history, EntryKind::DeadLetter).dead_letter.as_ref().unwrap().step, Some("charge"));
    assert!(text(history).contains("blocked by a dead letter (retries_exhausted) until an operator acts"));
}

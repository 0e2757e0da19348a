//! Records added to the table, and the resulting state and totals.

mod joins;

use super::*;
use crate::fixture::{Written, order_flow, time, with_mail};

const CONFIRMED: [&str; 5] =
    ["order.created", "inventory.reserved", "payment.charged", "shipping.scheduled", "order.confirmed"];

fn table(room: usize) -> SagaTable {
    SagaTable::new(&order_flow(), Limits { unfinished: room, ended: room })
}

fn fold(table: &mut SagaTable, written: &Written) {
    written.observed.iter().for_each(|observed| table.add(observed));
}

fn waits_for(table: &SagaTable) -> Vec<(&'static str, usize)> {
    let nodes = table.flow().nodes();
    let name = |queue: &WaitingSagas| (queue.waits_for.map_or("nobody", |index| nodes[index].name), queue.sagas);
    table.waiting().iter().map(name).collect()
}

#[test]
fn a_saga_is_in_flight_until_it_ends() {
    let mut table = table(10);
    for (observed, next) in
        Written::chain(1, &CONFIRMED).observed.iter().zip(["reserve", "charge", "schedule", "confirm", ""])
    {
        table.add(observed);
        let expected = if next.is_empty() { vec![] } else { vec![(next, 1)] };
        assert_eq!(waits_for(&table), expected);
    }
    assert_eq!((table.totals().started, table.totals().finished, table.in_flight()), (1, 1, 0));
    assert_eq!(table.endings().get("order.confirmed"), Some(&1));
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    let mut table = table(10);
    let mut written = Written::chain(1, &CONFIRMED);
    written.observed.reverse();
    // The end is read first; the rest belongs to an ended saga.
    fold(&mut table, &written);
    assert_eq!((table.totals().finished, table.in_flight()), (1, 0));
    let mut written = Written::chain(2, &CONFIRMED[..3]);
    written.observed.reverse();
    fold(&mut table, &written);
    assert_eq!(waits_for(&table), [("schedule", 1)]);
    assert_eq!(table.oldest(5)[0].since, time(0));
}

#[test]
fn duplicates_count_once_also_when_they_come_late() {
    let mut table = table(10);
    let written = Written::chain(1, &CONFIRMED);
    fold(&mut table, &written);
    fold(&mut table, &written);
    assert_eq!((table.totals().started, table.totals().finished, table.in_flight()), (1, 1, 0));
}

#[test]
fn a_compensating_saga_waits_for_its_compensations() {
    let mut table = table(10);
    let mut written = Written::chain(1, &["order.created", "inventory.reserved", "order.cancellation_requested"]);
    fold(&mut table, &written);
    assert_eq!(waits_for(&table), [("cancel", 1)]);
    written.null("shipping.cancelled", Some("order.cancellation_requested"), 400);
    fold(&mut table, &written);
    assert_eq!(waits_for(&table), [("refund", 1)]);
}

#[test]
fn a_partly_compensated_saga_is_counted_once_whichever_of_its_events_comes_last() {
    for released_last in [false, true] {
        let mut table = table(10);
        let mut written = Written::chain(1, &["order.created", "inventory.reserved", "payment.declined"]);
        written.partly("inventory.released", Some("payment.declined"), 300, true);
        written.partly("order.cancelled", Some("inventory.released"), 400, false);
        if released_last {
            written.observed.swap(3, 4);
        }
        fold(&mut table, &written);
        fold(&mut table, &written);
        fold(&mut table, &Written::chain(2, &["order.created", "inventory.rejected", "order.cancelled"]));
        let Totals { partly_compensated, finished, contradictory, .. } = table.totals();
        assert_eq!((partly_compensated, finished, contradictory), (1, 2, 0));
    }
}

#[test]
fn poison_and_foreign_types_are_counted_and_move_nothing() {
    let mut table = table(10);
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    written.poison(200);
    written.foreign("order.viewed", 300);
    fold(&mut table, &written);
    let Totals { unreadable, foreign, .. } = table.totals();
    assert_eq!((unreadable, foreign, waits_for(&table)), (1, 1, vec![("charge", 1)]));
    let mut stranger = Written::new(2);
    stranger.foreign("order.viewed", 0);
    fold(&mut table, &stranger);
    assert_eq!(table.in_flight(), 1);
}

#[test]
fn sagas_of_other_flows_are_only_counted() {
    let mut table = table(10);
    for saga in 1..=3 {
        let mut written = Written::new(saga);
        written.event("payment.charged", None, 100);
        written.foreign("trip.requested", 200);
        // A later event whose name exists in this flow as well.
        written.event("payment.refunded", None, 300);
        fold(&mut table, &written);
    }
    let Totals { of_other_flows, started, .. } = table.totals();
    assert_eq!((of_other_flows, started, table.in_flight()), (3, 0, 0));
    // A newer participant's event, read before the start.
    let mut ours = Written::new(4);
    ours.foreign("order.priced", 0);
    ours.event("order.created", None, 100);
    fold(&mut table, &ours);
    assert_eq!((table.totals().of_other_flows, waits_for(&table)), (3, vec![("reserve", 1)]));
}

#[test]
fn a_dead_letter_blocks_its_saga() {
    let mut table = table(10);
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    written.dead_letter("payment", "inventory.reserved", 5_000);
    fold(&mut table, &written);
    assert_eq!((table.waiting()[0].blocked, table.totals().dead_letters), (1, 1));
    assert_eq!(table.oldest(1)[0].blocked_by, Some("retries_exhausted"));
    // An operator has redriven it and the step has run.
    written.event("payment.charged", Some("inventory.reserved"), 9_000);
    table.add(&written.observed[3]);
    assert_eq!((table.waiting()[0].blocked, waits_for(&table)), (0, vec![("schedule", 1)]));
}

#[test]
fn an_event_whose_data_is_cut_off_is_of_this_flow_and_blocked() {
    let mut table = table(10);
    let mut written = Written::new(1);
    written.cut_off("order.created", 0);
    written.dead_letter("inventory", "order.created", 100);
    fold(&mut table, &written);
    assert_eq!((table.totals().of_other_flows, waits_for(&table)), (0, vec![("reserve", 1)]));
    assert_eq!(table.waiting()[0].blocked, 1);
}

#[test]
fn a_forged_reason_takes_no_room() {
    let mut table = table(10);
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    written.forged_dead_letter("payment", "inventory.reserved", &"ä".repeat(100_000), 5_000);
    fold(&mut table, &written);
    assert_eq!(table.oldest(1)[0].blocked_by, Some("ä".repeat(32).as_str()));
}

#[test]
fn the_oldest_come_first_and_no_more_than_are_asked_for() {
    let mut table = table(10);
    for number in [3, 1, 2] {
        let mut written = Written::new(number);
        written.event("order.created", None, i64::try_from(number).unwrap() * 1000);
        fold(&mut table, &written);
    }
    let ids: Vec<u128> = table.oldest(2).iter().map(|saga| saga.id.as_u128()).collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn sagas_beyond_the_limit_are_counted_and_their_ends_too() {
    let mut table = table(2);
    for number in 1..=3 {
        fold(&mut table, &Written::chain(number, &CONFIRMED[..2]));
    }
    assert_eq!((table.in_flight(), table.totals().untracked), (2, 2));
    let end = Written::chain(3, &CONFIRMED);
    table.add(&end.observed[4]);
    table.add(&end.observed[4]);
    assert_eq!((table.in_flight(), table.totals().finished), (2, 1));
}

const MINUTE: i64 = 60_000;

#[test]
fn a_late_event_of_an_ended_saga_does_not_stay() {
    let mut table = table(2);
    for number in 1..=3 {
        fold(&mut table, &Written::chain(number, &CONFIRMED));
    }
    // Only two ends are remembered, so the first is no longer known.
    table.advance_clock(time(MINUTE));
    table.add(&Written::chain(1, &CONFIRMED).observed[2]);
    assert_eq!((table.in_flight(), table.totals().finished), (1, 3));
    table.advance_clock(time(16 * MINUTE));
    assert_eq!((table.in_flight(), table.totals().forgotten), (1, 0));
    table.advance_clock(time(16 * MINUTE + 1));
    assert_eq!((table.in_flight(), table.totals().forgotten), (0, 1));
    assert!(table.without_start.is_empty());
}

#[test]
fn a_saga_whose_start_was_missed_is_known_as_long_as_it_goes_on() {
    let mut table = table(10);
    let written = Written::chain(1, &CONFIRMED);
    for (index, minute) in [(1, 0), (2, 10), (3, 20)] {
        table.advance_clock(time(minute * MINUTE));
        table.add(&written.observed[index]);
    }
    table.advance_clock(time(34 * MINUTE));
    assert_eq!(waits_for(&table), [("confirm", 1)]);
    table.add(&written.observed[4]);
    assert_eq!((table.totals().finished, table.without_start.len()), (1, 0));
}

#[test]
fn a_saga_that_has_started_or_is_blocked_is_not_forgotten() {
    let mut table = table(10);
    fold(&mut table, &Written::chain(1, &CONFIRMED[..2]));
    let mut blocked = Written::chain(2, &CONFIRMED[..2]);
    blocked.dead_letter("payment", "inventory.reserved", 5_000);
    blocked.observed.remove(0);
    fold(&mut table, &blocked);
    let mut dead_letter_alone = Written::chain(3, &CONFIRMED[..2]);
    dead_letter_alone.dead_letter("payment", "inventory.reserved", 5_000);
    table.add(&dead_letter_alone.observed[2]);
    assert_eq!(table.in_flight(), 3);
    table.advance_clock(time(1_000 * MINUTE));
    table.advance_clock(time(2_000 * MINUTE));
    assert_eq!((waits_for(&table), table.totals().forgotten), (vec![("charge", 2)], 1));
}

#[test]
fn two_ends_of_one_saga_are_a_contradiction() {
    let mut table = table(10);
    let mut written = Written::chain(1, &CONFIRMED);
    written.event("order.cancelled", Some("inventory.released"), 900);
    fold(&mut table, &written);
    assert_eq!((table.totals().finished, table.totals().contradictory), (1, 1));
}

#[test]
fn a_dead_letter_of_an_optional_participant_blocks_no_saga() {
    let mut table = SagaTable::new(&with_mail(), Limits { unfinished: 10, ended: 10 });
    let mut written = Written::chain(1, &CONFIRMED[..3]);
    written.flow = with_mail();
    written.event("receipt.wanted", Some("inventory.reserved"), 250);
    written.dead_letter("mail", "payment.charged", 9_000);
    fold(&mut table, &written);
    assert_eq!(waits_for(&table), [("schedule", 1)]);
    assert_eq!((table.waiting()[0].blocked, table.totals().dead_letters), (0, 1));
}

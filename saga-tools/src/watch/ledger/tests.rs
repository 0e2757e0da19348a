//! Records folded into the books, and what these say then.

use super::*;
use crate::fixture::{Written, order_flow, time};

const CONFIRMED: [&str; 5] =
    ["order.created", "inventory.reserved", "payment.charged", "shipping.scheduled", "order.confirmed"];

fn ledger(room: usize) -> Ledger {
    Ledger::new(&order_flow(), Room { unfinished: room, ended: room })
}

fn fold(ledger: &mut Ledger, written: &Written) {
    written.seen.iter().for_each(|seen| ledger.add(seen));
}

fn waits_for(ledger: &Ledger) -> Vec<(&'static str, usize)> {
    let nodes = ledger.flow().nodes();
    let name = |queue: &Queue| (queue.waits_for.map_or("nobody", |place| nodes[place].name), queue.sagas);
    ledger.queues().iter().map(name).collect()
}

#[test]
fn a_saga_is_under_way_until_it_ends() {
    let mut ledger = ledger(10);
    for (seen, next) in Written::chain(1, &CONFIRMED).seen.iter().zip(["reserve", "charge", "schedule", "confirm", ""])
    {
        ledger.add(seen);
        let expected = if next.is_empty() { vec![] } else { vec![(next, 1)] };
        assert_eq!(waits_for(&ledger), expected);
    }
    assert_eq!((ledger.totals().started, ledger.totals().finished, ledger.under_way()), (1, 1, 0));
    assert_eq!(ledger.endings().get("order.confirmed"), Some(&1));
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    let mut ledger = ledger(10);
    let mut written = Written::chain(1, &CONFIRMED);
    written.seen.reverse();
    // The end is read first, and the rest is of a saga that has ended.
    fold(&mut ledger, &written);
    assert_eq!((ledger.totals().finished, ledger.under_way()), (1, 0));
    let mut written = Written::chain(2, &CONFIRMED[..3]);
    written.seen.reverse();
    fold(&mut ledger, &written);
    assert_eq!(waits_for(&ledger), [("schedule", 1)]);
    assert_eq!(ledger.oldest(5)[0].since, time(0));
}

#[test]
fn duplicates_count_once_also_when_they_come_late() {
    let mut ledger = ledger(10);
    let written = Written::chain(1, &CONFIRMED);
    fold(&mut ledger, &written);
    fold(&mut ledger, &written);
    assert_eq!((ledger.totals().started, ledger.totals().finished, ledger.under_way()), (1, 1, 0));
}

#[test]
fn a_saga_that_is_turned_back_waits_for_what_undoes() {
    let mut ledger = ledger(10);
    let mut written = Written::chain(1, &["order.created", "inventory.reserved", "order.cancellation_requested"]);
    fold(&mut ledger, &written);
    assert_eq!(waits_for(&ledger), [("cancel", 1)]);
    written.null("shipping.cancelled", Some("order.cancellation_requested"), 400);
    fold(&mut ledger, &written);
    assert_eq!(waits_for(&ledger), [("refund", 1)]);
}

#[test]
fn poison_and_foreign_types_are_counted_and_move_nothing() {
    let mut ledger = ledger(10);
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    written.poison(200);
    written.foreign("order.viewed", 300);
    fold(&mut ledger, &written);
    let Totals { unreadable, foreign, .. } = ledger.totals();
    assert_eq!((unreadable, foreign, waits_for(&ledger)), (1, 1, vec![("charge", 1)]));
    let mut stranger = Written::new(2);
    stranger.foreign("order.viewed", 0);
    fold(&mut ledger, &stranger);
    assert_eq!(ledger.under_way(), 1);
}

#[test]
fn sagas_of_other_flows_are_counted_and_nothing_else_is_said_of_them() {
    let mut ledger = ledger(10);
    for saga in 1..=3 {
        let mut written = Written::new(saga);
        written.event("payment.charged", None, 100);
        written.foreign("trip.requested", 200);
        // Whatever comes later under a name that this flow has too.
        written.event("payment.refunded", None, 300);
        fold(&mut ledger, &written);
    }
    let Totals { of_other_flows, started, .. } = ledger.totals();
    assert_eq!((of_other_flows, started, ledger.under_way()), (3, 0, 0));
    // A newer participant of this flow, whose event was read before the start.
    let mut ours = Written::new(4);
    ours.foreign("order.priced", 0);
    ours.event("order.created", None, 100);
    fold(&mut ledger, &ours);
    assert_eq!((ledger.totals().of_other_flows, waits_for(&ledger)), (3, vec![("reserve", 1)]));
}

#[test]
fn a_dead_letter_says_that_its_saga_will_not_go_on() {
    let mut ledger = ledger(10);
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    written.dead_letter("payment", "inventory.reserved", 5_000);
    fold(&mut ledger, &written);
    assert_eq!((ledger.queues()[0].given_up, ledger.totals().dead_letters), (1, 1));
    assert_eq!(ledger.oldest(1)[0].given_up, Some("retries_exhausted"));
    // Published again by an operator, it is handled after all.
    written.event("payment.charged", Some("inventory.reserved"), 9_000);
    ledger.add(&written.seen[3]);
    assert_eq!((ledger.queues()[0].given_up, waits_for(&ledger)), (0, vec![("schedule", 1)]));
}

#[test]
fn a_forged_reason_takes_no_room() {
    let mut ledger = ledger(10);
    let mut written = Written::chain(1, &CONFIRMED[..2]);
    written.forged_letter("payment", "inventory.reserved", &"ä".repeat(100_000), 5_000);
    fold(&mut ledger, &written);
    assert_eq!(ledger.oldest(1)[0].given_up, Some("ä".repeat(32).as_str()));
}

#[test]
fn the_oldest_come_first_and_no_more_than_are_asked_for() {
    let mut ledger = ledger(10);
    for number in [3, 1, 2] {
        let mut written = Written::new(number);
        written.event("order.created", None, i64::try_from(number).unwrap() * 1000);
        fold(&mut ledger, &written);
    }
    let ids: Vec<u128> = ledger.oldest(2).iter().map(|saga| saga.id.as_u128()).collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn what_there_is_no_room_for_is_counted_and_its_end_too() {
    let mut ledger = ledger(2);
    for number in 1..=3 {
        fold(&mut ledger, &Written::chain(number, &CONFIRMED[..2]));
    }
    assert_eq!((ledger.under_way(), ledger.totals().untracked), (2, 2));
    let end = Written::chain(3, &CONFIRMED);
    ledger.add(&end.seen[4]);
    ledger.add(&end.seen[4]);
    assert_eq!((ledger.under_way(), ledger.totals().finished), (2, 1));
}

const MINUTE: i64 = 60_000;

#[test]
fn a_late_event_of_an_ended_saga_does_not_stay() {
    let mut ledger = ledger(2);
    for number in 1..=3 {
        fold(&mut ledger, &Written::chain(number, &CONFIRMED));
    }
    // Two ends are remembered: of the first it is known no more.
    ledger.pass(time(MINUTE));
    ledger.add(&Written::chain(1, &CONFIRMED).seen[2]);
    assert_eq!((ledger.under_way(), ledger.totals().finished), (1, 3));
    ledger.pass(time(16 * MINUTE));
    assert_eq!((ledger.under_way(), ledger.totals().forgotten), (1, 0));
    ledger.pass(time(16 * MINUTE + 1));
    assert_eq!((ledger.under_way(), ledger.totals().forgotten), (0, 1));
    assert!(ledger.strangers.is_empty());
}

#[test]
fn a_saga_whose_start_was_missed_is_known_as_long_as_it_goes_on() {
    let mut ledger = ledger(10);
    let written = Written::chain(1, &CONFIRMED);
    for (place, minute) in [(1, 0), (2, 10), (3, 20)] {
        ledger.pass(time(minute * MINUTE));
        ledger.add(&written.seen[place]);
    }
    ledger.pass(time(34 * MINUTE));
    assert_eq!(waits_for(&ledger), [("confirm", 1)]);
    ledger.add(&written.seen[4]);
    assert_eq!((ledger.totals().finished, ledger.strangers.len()), (1, 0));
}

#[test]
fn a_saga_that_has_begun_or_is_held_is_not_forgotten() {
    let mut ledger = ledger(10);
    fold(&mut ledger, &Written::chain(1, &CONFIRMED[..2]));
    let mut held = Written::chain(2, &CONFIRMED[..2]);
    held.dead_letter("payment", "inventory.reserved", 5_000);
    held.seen.remove(0);
    fold(&mut ledger, &held);
    let mut letter_alone = Written::chain(3, &CONFIRMED[..2]);
    letter_alone.dead_letter("payment", "inventory.reserved", 5_000);
    ledger.add(&letter_alone.seen[2]);
    assert_eq!(ledger.under_way(), 3);
    ledger.pass(time(1_000 * MINUTE));
    ledger.pass(time(2_000 * MINUTE));
    assert_eq!((waits_for(&ledger), ledger.totals().forgotten), (vec![("charge", 2)], 1));
}

#[test]
fn two_ends_of_one_saga_are_a_contradiction() {
    let mut ledger = ledger(10);
    let mut written = Written::chain(1, &CONFIRMED);
    written.event("order.cancelled", Some("inventory.released"), 900);
    fold(&mut ledger, &written);
    assert_eq!((ledger.totals().finished, ledger.totals().contradictory), (1, 1));
}

//! Sagas that wait at a join.

use super::*;
use crate::fixture::travel_flow;

fn trips(sagas: &[&[&str]]) -> SagaTable {
    let mut table = SagaTable::new(&travel_flow(), Limits { unfinished: 10, ended: 10 });
    for (saga, events) in (1..).zip(sagas) {
        let mut written = Written::of(travel_flow(), saga);
        written.event("trip.requested", None, 0);
        for (place, event) in (1..).zip(*events) {
            written.event(event, Some("trip.requested"), place * 100);
        }
        fold(&mut table, &written);
    }
    table
}

fn missing(table: &SagaTable) -> Vec<(String, usize)> {
    table.waiting().into_iter().flat_map(|queue| queue.missing).collect()
}

#[test]
fn sagas_are_counted_under_the_join_with_what_they_wait_for() {
    let table = trips(&[
        &["flight.reserved"],
        &["car.reserved", "flight.reserved"],
        &["hotel.reserved", "flight.reserved"],
        &["hotel.reserved", "flight.reserved", "car.reserved"],
    ]);
    assert_eq!(waits_for(&table), [("charge", 4)]);
    assert_eq!(missing(&table), [("car.reserved".to_owned(), 2), ("hotel.reserved".to_owned(), 2)]);
    let of_oldest: Vec<_> = table.oldest(4).into_iter().map(|saga| saga.missing.to_vec()).collect();
    assert_eq!(of_oldest[..2], [vec!["hotel.reserved", "car.reserved"], vec!["hotel.reserved"]]);
    assert!(of_oldest[3].is_empty(), "the last one is expected to charge");
}

#[test]
fn a_compensating_saga_is_counted_under_the_join_of_its_compensations() {
    let table = trips(&[&["flight.reserved", "hotel.rejected", "payment.refunded", "flight.released"]]);
    assert_eq!(waits_for(&table), [("cancel", 1)]);
    assert_eq!(missing(&table), [("car.rejected or car.released".to_owned(), 1)]);
    // Until its join is closed, the payment's compensation is what the saga waits for.
    let table = trips(&[&["flight.reserved", "trip.cancellation_requested"]]);
    assert_eq!((waits_for(&table), missing(&table)), (vec![("refund", 1)], vec![]));
}

#[test]
fn a_saga_without_a_start_is_kept_as_long_as_the_longest_deadline_also_that_of_a_join() {
    assert_eq!(trips(&[]).forget_after(), SignedDuration::from_secs(3 * 1800));
    let mut flow = travel_flow().to_json();
    flow["participants"][4]["steps"][0]["arrivals_deadline"]["after_ms"] = serde_json::json!(3_600_000);
    let flow = Choreography::from_json(flow.to_string().as_bytes()).unwrap();
    let table = SagaTable::new(&flow, Limits { unfinished: 10, ended: 10 });
    assert_eq!(table.forget_after(), SignedDuration::from_secs(3 * 3600));
}

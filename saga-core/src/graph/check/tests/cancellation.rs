//! Where a cancellation enters: at the last step before the pivot, whose compensation releases the rest.

use super::*;
use crate::graph::fixture::travel::{participants, participants_that_listen};

const CANCELLED: &str = "trip.cancellation_requested";

fn check(flow: &[Declaration]) -> Vec<Finding> {
    Choreography::of(flow.to_vec()).check()
}

/// Where cancellations enter too early, by step and event.
fn too_early(flow: &[Declaration]) -> Vec<(&'static str, &'static str)> {
    let found = check(flow).into_iter().filter(|f| f.rule == Rule::CancellationsEnterLast);
    found.map(|f| (f.participant, f.event.unwrap_or_default())).collect()
}

fn compensated_on(declaration: &mut Declaration, cause: &'static str) {
    also(&mut declaration.steps[0].compensation.as_mut().unwrap().triggers, event(cause));
}

#[test]
fn a_cancellation_that_enters_before_the_pivot_and_flows_back_is_right() {
    assert_eq!(order_flow().check(), []);
    assert_eq!(check(&participants()), []);
    assert_eq!(check(&participants_that_listen()), []);
}

#[test]
fn a_cancellation_that_goes_to_every_participant_at_once_is_found_with_the_path_to_both_ends() {
    let mut flow = participants();
    flow[1..4].iter_mut().for_each(|branch| compensated_on(branch, CANCELLED));
    let found = check(&flow);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(
        found[0].to_string(),
        "[cancellations-enter-last] flight: trip.cancellation_requested/1 compensates flight: reserve, hotel: reserve and car: \
         reserve while later steps can still run on events in flight, so that a saga can end with trip.confirmed/1 and be \
         compensated too (flight: release runs on trip.cancellation_requested/1, then payment: charge runs on \
         flight.reserved/1, then trip: confirm runs on payment.charged/1): let trip.cancellation_requested/1 start only refund \
         of payment, which closes the last step before the pivot, and let the others follow from payment.refunded/1"
    );
}

#[test]
fn a_cancellation_of_an_order_that_goes_to_every_participant_at_once_is_found() {
    let found = places(|flow| flow[1..3].iter_mut().for_each(|it| compensated_on(it, "order.cancellation_requested")));
    let at = (Rule::CancellationsEnterLast, "inventory", "reserve", "order.cancellation_requested");
    assert_eq!(found, [at]);
}

#[test]
fn a_branch_that_is_cancelled_before_the_join_is_closed_is_found() {
    let mut flow = participants();
    compensated_on(&mut flow[2], CANCELLED);
    assert_eq!(too_early(&flow), [("hotel", CANCELLED)]);
}

#[test]
fn a_deadline_that_releases_a_branch_before_the_join_is_closed_is_found() {
    let mut flow = participants();
    flow[0].steps[0].deadline = deadline("trip.delayed");
    compensated_on(&mut flow[3], "trip.delayed");
    assert!(too_early(&flow).contains(&("car", "trip.delayed")));
}

#[test]
fn a_deadline_of_somebody_who_does_not_decide_at_the_pivot_is_found() {
    // The flight waits for a day, while the trip is confirmed.
    let mut flow = participants();
    flow[1].steps[0].deadline = deadline("flight.lapsed");
    compensated_on(&mut flow[4], "flight.lapsed");
    assert_eq!(too_early(&flow), [("payment", "flight.lapsed")]);
    // The trip itself knows whether it has confirmed.
    let mut flow = participants();
    flow[0].steps[0].deadline = deadline("trip.lapsed");
    compensated_on(&mut flow[4], "trip.lapsed");
    assert_eq!(too_early(&flow), []);
}

#[test]
fn the_deadline_of_a_join_has_closed_it() {
    // It releases all branches at once.
    assert!(too_early(&participants()).is_empty());
    // The same event after another step does not say that the join is closed.
    let mut flow = participants();
    flow[0].steps[0].deadline = deadline("payment.expired");
    assert_eq!(too_early(&flow), [("flight", "payment.expired")]);
}

#[test]
fn a_compensation_that_releases_the_rest_before_the_last_step_is_closed_is_found() {
    // The cancellation enters at a branch, and what is released there closes the payment.
    let mut flow = participants();
    flow[4].steps[0].compensation.as_mut().unwrap().triggers =
        events(&["flight.rejected", "hotel.rejected", "car.rejected", "car.released"]).into();
    flow[3].steps[0].compensation.as_mut().unwrap().triggers =
        events(&[CANCELLED, "payment.declined", "payment.expired"]).into();
    assert_eq!(too_early(&flow), [("car", CANCELLED)]);
}

#[test]
fn branches_that_are_joined_at_the_pivot_are_each_the_last_before_it() {
    let mut flow = participants();
    flow[0].steps[1].triggers = all_of(&[&["flight.reserved"], &["hotel.reserved"], &["car.reserved"]]);
    let rejected = ["flight.rejected", "hotel.rejected", "car.rejected"];
    for (place, branch) in flow[1..4].iter_mut().enumerate() {
        let others = rejected.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, name)| *name);
        branch.steps[0].compensation.as_mut().unwrap().triggers =
            events(&others.chain([CANCELLED]).collect::<Vec<_>>()).into();
    }
    assert_eq!(check(&flow[..4]), []);
}

#[test]
fn the_deadline_of_a_join_that_is_the_pivot_has_closed_it_for_the_steps_between() {
    let mut flow = participants();
    flow[0].steps[1].triggers = all_of(&[&["payment.charged"], &["trip.approved"]]);
    flow[0].steps[1].arrivals_deadline = deadline("trip.not_approved");
    flow[0].publishes.push(event("trip.approved"));
    flow[1..4].iter_mut().for_each(|branch| compensated_on(branch, "trip.not_approved"));
    compensated_on(&mut flow[4], "trip.not_approved");
    assert_eq!(check(&flow), []);
    // A step's deadline closes nothing.
    flow[0].steps[1].arrivals_deadline = None;
    flow[0].steps[0].deadline = deadline("trip.not_approved");
    assert_eq!(too_early(&flow), [("flight", "trip.not_approved")]);
}

#[test]
fn a_cancellation_that_the_participant_of_the_pivot_does_not_publish_is_found() {
    let mut flow = [order(), inventory(), payment(), shipping()];
    also(&mut flow[3].steps[0].compensation.as_mut().unwrap().triggers, event("order.recalled"));
    let mut support = inventory();
    (support.participant, support.steps, support.publishes) = ("support", Vec::new(), events(&["order.recalled"]));
    let found = check(&[flow.to_vec(), vec![support]].concat());
    assert_eq!(found.len(), 1, "{found:#?}");
    let text = found[0].to_string();
    assert!(text.starts_with("[cancellations-enter-last] shipping: order.recalled/1"), "{text}");
    assert!(
        text.contains("order: confirm runs on shipping.scheduled/1") && text.contains("the participant of the pivot"),
        "{text}"
    );
}

//! One flow per rule with a single fault: the check finds it, and finds nothing else.

mod cancellation;
mod choices;
mod forward;
mod joins;
mod optional;

use serde_json::json;

use super::*;
use crate::event::EventType;
use crate::graph::{
    Accepted, Declaration, Emits, End, Ending, StepSpec, Triggers,
    fixture::{
        all_of, compensation, deadline, event, events, inventory, order, order_flow, participant, payment, shipping,
        step, with_schema,
    },
};

type Flow = [Declaration; 4];

/// The order flow after one change.
fn findings(change: impl FnOnce(&mut Flow)) -> Vec<Finding> {
    let mut flow = [order(), inventory(), payment(), shipping()];
    change(&mut flow);
    Choreography::of(flow.to_vec()).check()
}

/// Rule, participant, step and event of each finding.
fn places(change: impl FnOnce(&mut Flow)) -> Vec<(Rule, &'static str, &'static str, &'static str)> {
    let place = |f: Finding| (f.rule, f.participant, f.step.unwrap_or_default(), f.event.unwrap_or_default());
    findings(change).into_iter().map(place).collect()
}

/// Another event that starts it.
fn also(triggers: &mut Triggers, event: EventType) {
    *triggers = triggers.iter().copied().chain([event]).collect::<Vec<_>>().into();
}

fn release_triggers(flow: &mut [Declaration], triggers: &[&'static str]) {
    flow[1].steps[0].compensation.as_mut().unwrap().triggers = events(triggers).into();
}

#[test]
fn the_order_flow_keeps_every_rule() {
    assert_eq!(order_flow().check(), []);
}

#[test]
fn a_participant_is_checked_alone_by_its_own_declaration() {
    for declaration in [order(), inventory(), payment(), shipping()] {
        assert_eq!(declaration.check(), [], "{}", declaration.participant);
    }
    let mut twice = inventory();
    twice.steps.push(step("reserve", &["order.created"]));
    let rules: Vec<Rule> = twice.check().into_iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, [Rule::StepsAreNamed, Rule::OneStepPerEvent]);
}

#[test]
fn an_accepted_finding_is_left_out_and_an_acceptance_without_a_finding_is_found() {
    let accepted = |flow: &mut Flow| {
        flow[0].accepted.push(Accepted { rule: Rule::WaitsHaveDeadlines, why: "an operator checks every day" });
    };
    let unbounded = |flow: &mut Flow| flow[0].steps[0].deadline = None;
    let found = places(unbounded);
    assert!(found.iter().any(|(rule, participant, ..)| (*rule, *participant) == (Rule::WaitsHaveDeadlines, "order")));
    let left = places(|flow| (unbounded(flow), accepted(flow)).1);
    assert!(left.iter().all(|(rule, ..)| *rule != Rule::WaitsHaveDeadlines), "{left:?}");
    assert_eq!(places(accepted), [(Rule::AcceptedIsFound, "order", "", "")]);
}

#[test]
fn two_participants_with_one_name_are_found() {
    let found = places(|flow| flow[2].participant = "inventory");
    assert_eq!(found, [(Rule::ParticipantsAreDistinct, "inventory", "", "")]);
}

#[test]
fn a_deadline_until_the_end_limits_every_wait_of_its_participant() {
    let flow = |flow: &mut Flow, saga_deadline| {
        flow[0].steps[0].deadline = None;
        let step = StepSpec { saga_deadline, ..step("note", &["inventory.reserved"]) };
        flow[0].steps.push(step);
    };
    let rules = |found: Vec<(Rule, &'static str, &'static str, &'static str)>| -> Vec<(Rule, &'static str)> {
        found
            .into_iter()
            .filter(|(rule, ..)| *rule == Rule::WaitsHaveDeadlines)
            .map(|(rule, _, step, _)| (rule, step))
            .collect()
    };
    let unbounded = [(Rule::WaitsHaveDeadlines, "register")];
    assert_eq!(
        rules(places(|f| flow(f, None))),
        unbounded,
        "one deadline would limit both waits, and is what is asked for"
    );
    assert_eq!(rules(places(|f| flow(f, deadline("order.cancellation_requested")))), unbounded, "it begins too late");
    let from_the_start = |f: &mut Flow| {
        flow(f, None);
        f[0].steps[0].saga_deadline = deadline("order.cancellation_requested");
    };
    assert_eq!(rules(places(from_the_start)), []);
    let found = findings(|f| flow(f, None));
    assert!(
        found
            .iter()
            .any(|f| f.message.contains("add .saga_deadline(..) to register, or .deadline(..) to each of them"))
    );
}

#[test]
fn a_deadline_until_an_end_that_is_not_declared_is_found() {
    let endless = |flow: &mut Flow| flow[1].steps[0].saga_deadline = deadline("order.cancellation_requested");
    let expected = [
        (Rule::CancellationsEnterLast, "shipping", "schedule", "order.cancellation_requested"),
        (Rule::SagaDeadlinesEnd, "inventory", "reserve", ""),
    ];
    assert_eq!(places(endless), expected, "and inventory does not know whether the order was confirmed");
    let mut alone = inventory();
    alone.steps[0].saga_deadline = deadline("order.cancellation_requested");
    assert_eq!(alone.check().len(), 1, "a service that has it does not start");
}

#[test]
fn a_step_without_a_name_is_found() {
    let found = places(|flow| flow[3].steps[0].name = "");
    assert_eq!(found, [(Rule::StepsAreNamed, "shipping", "", "")]);
}

#[test]
fn two_steps_with_one_name_are_found() {
    let found = places(|flow| flow[0].steps[2].name = "confirm");
    assert_eq!(found, [(Rule::StepsAreNamed, "order", "confirm", "")]);
}

#[test]
fn an_event_on_two_topics_is_found() {
    let found = places(|flow| flow[3].steps[0].triggers[0].topic = "charges");
    assert_eq!(found, [(Rule::EventsAgree, "shipping", "", "payment.charged")]);
}

#[test]
fn an_event_with_two_schemas_is_found() {
    let amount = json!({"type": "object", "properties": {"title": {"type": "string"}}});
    let found = places(|flow| charged(flow, amount));
    assert_eq!(found, [(Rule::EventsAgree, "shipping", "", "payment.charged")]);
}

#[test]
fn a_schema_with_other_annotations_is_the_same_schema() {
    let described = json!({"title": "Charged", "description": "Money.", "type": "object"});
    assert_eq!(findings(|flow| charged(flow, described)), []);
}

/// The findings when shipping declares this schema for its trigger.
fn charged(flow: &mut [Declaration], schema: serde_json::Value) {
    flow[3].steps[0].triggers[0] = with_schema("payment.charged", "payment.events", schema);
}

#[test]
fn an_event_that_starts_two_steps_of_a_participant_is_found() {
    let found = places(|flow| flow[1].steps.push(step("count", &["order.created"])));
    assert_eq!(found, [(Rule::OneStepPerEvent, "inventory", "count", "order.created")]);
}

#[test]
fn an_event_that_starts_a_step_and_its_compensation_is_found() {
    let found = places(|flow| release_triggers(flow, &["payment.declined", "payment.refunded", "order.created"]));
    assert_eq!(found, [(Rule::OneStepPerEvent, "inventory", "reserve", "order.created")]);
}

#[test]
fn an_event_without_a_publisher_is_found() {
    let found = places(|flow| also(&mut flow[2].steps[0].triggers, event("inventory.restocked")));
    assert_eq!(found, [(Rule::ConsumedIsPublished, "payment", "charge", "inventory.restocked")]);
}

#[test]
fn a_version_raised_on_one_side_is_found_on_both() {
    let mut newer = event("inventory.reserved");
    newer.version = 2;
    let found = findings(|flow| flow[1].steps[0].success = newer.into());
    let rules: Vec<_> = found.iter().map(|f| f.rule).collect();
    assert_eq!(rules, [Rule::ConsumedIsPublished, Rule::PublishedIsConsumed]);
    assert!(found[0].message.contains("inventory publishes version 2"), "{}", found[0]);
}

#[test]
fn an_end_without_a_publisher_is_found() {
    let returned = End { event: event("order.returned"), ending: Ending::Completed };
    let found = places(|flow| flow[0].ends.push(returned));
    assert_eq!(found, [(Rule::ConsumedIsPublished, "order", "", "order.returned")]);
}

#[test]
fn an_event_without_a_consumer_is_found() {
    let found = places(|flow| flow[0].publishes.push(event("order.archived")));
    assert_eq!(found, [(Rule::PublishedIsConsumed, "order", "order.archived", "order.archived")]);
}

#[test]
fn a_compensation_event_without_a_consumer_is_found_once() {
    let found = places(|flow| release_triggers(flow, &["payment.declined"]));
    assert_eq!(found, [(Rule::PublishedIsConsumed, "payment", "charge", "payment.refunded")]);
}

#[test]
fn a_refusal_without_a_consumer_is_found() {
    let found = places(|flow| {
        flow[2].steps[0].compensation.as_mut().unwrap().triggers = events(&["shipping.cancelled"]).into()
    });
    assert_eq!(found, [(Rule::RefusalsAreAnswered, "shipping", "schedule", "shipping.rejected")]);
}

#[test]
fn a_step_before_the_pivot_without_a_compensation_is_found() {
    let found = places(|flow| {
        flow[2].steps[0].compensation = None;
        release_triggers(flow, &["payment.declined", "shipping.rejected", "shipping.cancelled"]);
    });
    assert_eq!(found, [(Rule::StepsCanBeCompensated, "payment", "charge", "order.cancellation_requested")]);
}

#[test]
fn a_step_at_the_pivot_needs_no_compensation() {
    let found = findings(|flow| {
        // No step after the charge refuses, and no request cancels the saga.
        flow[0].publishes.pop();
        flow[0].steps[0].deadline = deadline("order.reminded");
        flow[0].ends.push(End { event: event("order.reminded"), ending: Ending::Completed });
        (flow[0].steps[1].pivot, flow[0].steps[1].until_it_succeeds) = (false, true);
        flow[3].steps[0].until_it_succeeds = true;
        flow[2].steps[0] = StepSpec { compensation: None, pivot: true, ..flow[2].steps[0].clone() };
        flow[3].steps[0] = StepSpec { compensation: None, refusal: Emits::nothing(), ..flow[3].steps[0].clone() };
        release_triggers(flow, &["payment.declined"]);
    });
    assert_eq!(found, []);
}

#[test]
fn a_refusal_that_does_not_reach_an_earlier_compensation_is_found() {
    let found = places(|flow| {
        release_triggers(flow, &["payment.refunded"]);
        also(&mut flow[0].steps[2].triggers, event("payment.declined"));
    });
    assert_eq!(found, [(Rule::CompensationsAreReached, "inventory", "reserve", "payment.declined")]);
}

#[test]
fn a_cancellation_that_does_not_enter_at_the_tail_is_found() {
    let found = places(|flow| {
        flow[3].steps[0].compensation = None;
        flow[2].steps[0].compensation =
            compensation("refund", &["shipping.rejected", "order.cancellation_requested"], "payment.refunded");
    });
    assert_eq!(found, [(Rule::StepsCanBeCompensated, "shipping", "schedule", "order.cancellation_requested")]);
}

#[test]
fn a_compensation_that_only_follows_from_itself_is_found() {
    let found = places(|flow| {
        flow[2].steps[0].compensation = compensation("refund", &["payment.refunded"], "payment.refunded");
        release_triggers(flow, &["payment.declined", "shipping.rejected", "shipping.cancelled"]);
    });
    assert_eq!(found, [(Rule::StepsDoNotCycle, "payment", "charge", "payment.refunded")]);
}

#[test]
fn a_refusal_after_the_pivot_that_compensates_is_found() {
    let found = places(|flow| {
        (flow[0].steps[1].pivot, flow[0].steps[1].until_it_succeeds) = (false, true);
        flow[2].steps[0].pivot = true;
    });
    // The order asks for cancellations, and the payment would have to know of them.
    let cancelled = (Rule::CancellationsEnterLast, "inventory", "reserve", "order.cancellation_requested");
    assert_eq!(found, [(Rule::PivotIsFinal, "shipping", "schedule", "shipping.rejected"), cancelled]);
}

#[test]
fn a_wait_without_a_deadline_is_found() {
    let found = places(|flow| flow[0].steps[0].deadline = None);
    assert_eq!(found, [(Rule::WaitsHaveDeadlines, "order", "register", "")]);
}

#[test]
fn a_later_wait_needs_a_deadline_of_its_own() {
    // Registering has a deadline, which ends when the payment is noted; after that the order waits for the shipment.
    let found = places(|flow| flow[0].steps.push(step("note_payment", &["payment.charged"])));
    assert_eq!(found, [(Rule::WaitsHaveDeadlines, "order", "note_payment", "")]);
}

#[test]
fn two_steps_in_no_order_wait_for_each_other() {
    let makes = |name, trigger, success| StepSpec { success: event(success).into(), ..step(name, &[trigger]) };
    let done = End { event: event("shop.closed"), ending: Ending::Completed };
    let close = StepSpec { success: done.event.into(), ..step("close", &[]) };
    let close = StepSpec { triggers: all_of(&[&["till.counted"], &["floor.swept"]]), ..close };
    let close = StepSpec { arrivals_deadline: deadline("shop.left_open"), ..close };
    let left_open = End { event: event("shop.left_open"), ending: Ending::Completed };
    let flow = Choreography::of(vec![
        Declaration {
            publishes: events(&["shop.closing"]),
            ends: vec![done, left_open],
            ..participant("shop", vec![close])
        },
        participant("till", vec![makes("count", "shop.closing", "till.emptied")]),
        participant("floor", vec![makes("clear", "shop.closing", "floor.cleared")]),
        participant(
            "night_shift",
            vec![makes("recount", "till.emptied", "till.counted"), makes("sweep", "floor.cleared", "floor.swept")],
        ),
    ]);
    let found: Vec<_> = flow.check().into_iter().map(|f| (f.rule, f.step)).collect();
    let waits = |step| (Rule::WaitsHaveDeadlines, Some(step));
    assert_eq!(found, [waits("recount"), waits("sweep")]);
}

#[test]
fn a_cycle_of_steps_is_found_once() {
    let found = places(|flow| also(&mut flow[1].steps[0].triggers, event("shipping.scheduled")));
    assert_eq!(found, [(Rule::StepsDoNotCycle, "inventory", "reserve", "shipping.scheduled")]);
}

#[test]
fn a_path_that_stops_is_found_where_it_stops() {
    let found = places(|flow| {
        flow[0].steps[2].triggers = events(&["inventory.rejected"]).into();
        flow[0].steps.push(step("note", &["inventory.released"]));
    });
    assert_eq!(found, [(Rule::PathsEnd, "inventory", "reserve", "inventory.released")]);
}

#[test]
fn a_compensated_saga_that_ends_as_completed_is_found() {
    let found = places(|flow| flow[0].ends[1].ending = Ending::Completed);
    assert_eq!(found, [(Rule::PathsEnd, "inventory", "reserve", "inventory.released")]);
}

#[test]
fn a_saga_that_no_success_completes_is_found() {
    let found = places(|flow| flow[0].ends[0].ending = Ending::Compensated);
    assert_eq!(found, [(Rule::PathsEnd, "order", "order.created", "order.created")]);
}

#[test]
fn every_finding_names_its_rule_and_a_repair() {
    let found = findings(|flow| flow[0].steps[0].deadline = None);
    assert_eq!(
        found[0].to_string(),
        "[waits-have-deadlines] order: after register the participant waits for shipping.scheduled/1 and would wait for \
         ever: add .deadline(..) to register"
    );
}

#[test]
fn every_rule_is_listed_once() {
    let names: std::collections::BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    assert_eq!(names.len(), Rule::ALL.len());
    for rule in Rule::ALL {
        assert_eq!(serde_json::to_value(rule).unwrap(), rule.name());
    }
}

//! Flows with a choice, or with several events at once: each alternative is judged, and alternatives exclude each other.

use super::*;
use crate::graph::{EventKey, How, Node, NodeKind, SagaStatus, fixture::key};

fn emits(alternatives: &[&[&'static str]]) -> Emits {
    Emits::one_of(alternatives.iter().map(|events_at_once| events(events_at_once)))
}

fn one(name: &'static str) -> Emits {
    event(name).into()
}

/// The shop sends a parcel by rail or by road; either may refuse, and so may the delivery that follows both.
fn parcel() -> [Declaration; 4] {
    let pack = StepSpec {
        success: emits(&[&["rail.chosen"], &["road.chosen"]]),
        compensation: compensation(
            "unpack",
            &["rail.refused", "road.refused", "rail.unloaded", "road.unloaded"],
            "parcel.unpacked",
        ),
        deadline: deadline("parcel.expired"),
        ..step("pack", &["parcel.ordered"])
    };
    let close = StepSpec { success: one("parcel.closed"), pivot: true, ..step("close", &["parcel.delivered"]) };
    let cancel = StepSpec { success: one("parcel.cancelled"), ..step("cancel", &["parcel.unpacked"]) };
    let carry = |names: [&'static str; 4]| StepSpec {
        success: one(names[1]),
        refusal: one(names[2]),
        compensation: compensation("unload", &["delivery.refused", "delivery.taken_back"], names[3]),
        ..step("carry", &names[..1])
    };
    let deliver = StepSpec {
        success: one("parcel.delivered"),
        refusal: one("delivery.refused"),
        compensation: compensation("take_back", &["parcel.expired"], "delivery.taken_back"),
        ..step("deliver", &["rail.arrived", "road.arrived"])
    };
    let shop = Declaration {
        publishes: events(&["parcel.ordered"]),
        ends: vec![
            End { event: event("parcel.closed"), ending: Ending::Completed },
            End { event: event("parcel.cancelled"), ending: Ending::Compensated },
        ],
        ..participant("shop", vec![pack, close, cancel])
    };
    [
        shop,
        participant("rail", vec![carry(["rail.chosen", "rail.arrived", "rail.refused", "rail.unloaded"])]),
        participant("road", vec![carry(["road.chosen", "road.arrived", "road.refused", "road.unloaded"])]),
        participant("delivery", vec![deliver]),
    ]
}

fn found(change: impl FnOnce(&mut [Declaration; 4])) -> Vec<(Rule, &'static str, &'static str)> {
    let mut flow = parcel();
    change(&mut flow);
    let place = |f: Finding| (f.rule, f.participant, f.event.unwrap_or_default());
    Choreography::of(flow.to_vec()).check().into_iter().map(place).collect()
}

/// The parcel is never unloaded from a train.
fn unpack_without_rail(flow: &mut [Declaration; 4]) {
    let triggers = events(&["rail.refused", "road.refused", "road.unloaded"]);
    flow[0].steps[0].compensation.as_mut().unwrap().triggers = triggers.into();
}

fn node(flow: &Choreography, participant: &str, step: &str) -> Node {
    let is = |n: &&Node| (n.participant, n.step, n.kind) == (participant, step, NodeKind::Action);
    flow.nodes().iter().find(is).unwrap().clone()
}

#[test]
fn one_branch_of_a_choice_is_not_compensated_when_the_other_refuses() {
    assert_eq!(found(|_| ()), []);
}

#[test]
fn branches_of_a_fork_are_compensated_when_the_other_refuses() {
    let found = found(|flow| flow[0].steps[0].success = emits(&[&["rail.chosen", "road.chosen"]]));
    let unreached = |participant, event| (Rule::CompensationsAreReached, participant, event);
    let delivery = [unreached("delivery", "rail.refused"), unreached("delivery", "road.refused")];
    assert_eq!(found[0], (Rule::AlternativesAreExclusive, "delivery", "road.arrived"), "both parcels arrive");
    assert_eq!(found[1..3], delivery, "the one parcel was delivered when the other is refused");
    assert_eq!(found[3..], [unreached("rail", "road.refused"), unreached("road", "rail.refused")]);
}

#[test]
fn an_alternative_without_a_consumer_is_found() {
    let found = found(|flow| flow[0].steps[0].success = emits(&[&["rail.chosen"], &["road.chosen"], &["air.chosen"]]));
    assert_eq!(found, [(Rule::PublishedIsConsumed, "shop", "air.chosen")]);
}

#[test]
fn one_of_several_events_without_a_consumer_is_found() {
    let found = found(|flow| flow[0].steps[0].success = emits(&[&["rail.chosen", "air.chosen"], &["road.chosen"]]));
    assert_eq!(found, [(Rule::PublishedIsConsumed, "shop", "air.chosen")]);
}

#[test]
fn an_alternative_that_leads_to_no_end_is_found() {
    let found = found(|flow| {
        flow[0].steps[0].success = emits(&[&["rail.chosen"], &["road.chosen"], &["air.chosen"]]);
        flow[0].steps.push(step("note", &["air.chosen"]));
    });
    assert_eq!(found, [(Rule::PathsEnd, "shop", "air.chosen")]);
}

#[test]
fn a_refusal_that_nobody_answers_is_found_among_several() {
    let found = found(|flow| flow[1].steps[0].refusal = emits(&[&["rail.refused"], &["rail.struck"]]));
    assert!(found.contains(&(Rule::RefusalsAreAnswered, "rail", "rail.struck")), "{found:?}");
}

#[test]
fn a_step_that_ends_the_saga_in_one_alternative_is_compensated_in_the_other() {
    let found = found(|flow| {
        flow[1].steps[0].success = emits(&[&["rail.arrived"], &["parcel.collected"]]);
        flow[1].steps[0].compensation = None;
        flow[0].ends.push(End { event: event("parcel.collected"), ending: Ending::Completed });
        unpack_without_rail(flow);
    });
    assert_eq!(found, [(Rule::StepsCanBeCompensated, "rail", "delivery.refused")]);
}

#[test]
fn a_step_that_ends_the_saga_in_each_alternative_needs_no_compensation() {
    let found = found(|flow| {
        flow[1].steps[0].success = emits(&[&["parcel.collected"], &["parcel.returned", "rail.arrived"]]);
        flow[1].steps[0].compensation = None;
        for name in ["parcel.collected", "parcel.returned"] {
            flow[0].ends.push(End { event: event(name), ending: Ending::Completed });
        }
        unpack_without_rail(flow);
    });
    // The shop does not know that the railway has ended the saga when its deadline passes.
    assert_eq!(found, [(Rule::CancellationsEnterLast, "shop", "parcel.expired")]);
}

#[test]
fn an_event_that_is_published_twice_at_once_is_found() {
    let twice = |flow: &mut [Declaration; 4]| {
        flow[0].steps[0].success = emits(&[&["rail.chosen", "rail.chosen"], &["road.chosen"]]);
    };
    assert_eq!(found(twice), [(Rule::EventsArePublishedOnce, "shop", "rail.chosen")]);
    let mut flow = parcel();
    twice(&mut flow);
    assert_eq!(flow[0].check().len(), 1, "its participant does not start");
}

#[test]
fn alternatives_and_refusals_exclude_each_other_and_events_at_once_do_not() {
    let mut flow = parcel();
    flow[0].steps[0].success = emits(&[&["rail.chosen", "label.printed"], &["road.chosen", "label.printed"]]);
    let flow = Choreography::of(flow.to_vec());
    let (pack, carry) = (node(&flow, "shop", "pack"), node(&flow, "rail", "carry"));
    let excludes = |node: &Node, one, other| node.excludes(key(one), key(other)) && node.excludes(key(other), key(one));
    assert!(excludes(&pack, "rail.chosen", "road.chosen"));
    assert!(!excludes(&pack, "rail.chosen", "label.printed"));
    assert!(!excludes(&pack, "rail.chosen", "parcel.expired"), "a deadline passes after a success");
    assert!(!excludes(&pack, "rail.chosen", "rail.arrived"), "another's event");
    assert!(excludes(&carry, "rail.arrived", "rail.refused"));
    let sets: Vec<&[EventKey]> = pack.alternatives(How::Success).collect();
    assert_eq!(sets, [[key("rail.chosen"), key("label.printed")], [key("road.chosen"), key("label.printed")]]);
}

#[test]
fn a_choice_is_answered_by_one_alternative_and_several_events_by_all_of_them() {
    let mut flow = parcel();
    flow[0].steps[0].success = emits(&[&["rail.chosen", "label.printed"], &["road.chosen"]]);
    let flow = Choreography::of(flow.to_vec());
    let expected = |seen: &[&'static str]| {
        let state = flow.state(seen.iter().copied());
        assert_eq!(state.status, SagaStatus::Forward);
        let of_pack = state.expected.iter().find(|expected| expected.node.step == "pack");
        of_pack.map_or(Vec::new(), |expected| expected.one_of.clone())
    };
    let all = vec![vec![key("rail.chosen"), key("label.printed")], vec![key("road.chosen")]];
    assert_eq!(expected(&["parcel.ordered"]), all);
    assert_eq!(expected(&["parcel.ordered", "rail.chosen"]), [[key("label.printed")]]);
    assert!(expected(&["parcel.ordered", "rail.chosen", "label.printed"]).is_empty());
    assert!(expected(&["parcel.ordered", "road.chosen"]).is_empty());
}

#[test]
fn a_choice_is_drawn_and_read_as_it_was_written() {
    let mut flow = parcel();
    flow[0].steps[0].success = emits(&[&["rail.chosen", "label.printed"], &["road.chosen"]]);
    flow[1].steps[0].refusal = emits(&[&["rail.refused"], &["rail.struck"]]);
    let document = flow[0].to_json();
    let packs = &document["steps"][0];
    assert_eq!(packs["successes"], json!([["rail.chosen/1", "label.printed/1"], ["road.chosen/1"]]));
    assert_eq!((packs.get("success"), &document["steps"][1]["success"]), (None, &json!("parcel.closed/1")));
    assert_eq!(flow[1].to_json()["steps"][0]["refusals"], json!([["rail.refused/1"], ["rail.struck/1"]]));
    let flow = Choreography::of(flow.to_vec());
    let read = Choreography::from_json(&serde_json::to_vec(&flow.to_json()).unwrap()).unwrap();
    assert_eq!(read.declarations(), flow.declarations());
    let drawn = flow.to_mermaid();
    for part in [
        "shop_pack[\"pack<br/>one of 2<br/>deadline 5 min\"]",
        "shop_pack -->|\"rail.chosen<br/>with label.printed\"| rail_carry",
        "shop_pack -->|\"road.chosen\"| road_carry",
        "rail_carry[\"carry<br/>refuses with one of 2\"]",
    ] {
        assert!(drawn.contains(part), "{part}\n{drawn}");
    }
}

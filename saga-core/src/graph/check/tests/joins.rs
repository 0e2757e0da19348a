//! Flows with a fork and a join: the right ones have no findings, and each wrong one has the one that names its fault.

use super::*;
use crate::graph::{
    EventKey, NodeKind,
    fixture::travel::{participants, participants_that_listen, travel_flow, trip},
};

type Travel = [Declaration; 5];

/// The findings of the travel flow after one change.
fn findings(change: impl FnOnce(&mut Travel)) -> Vec<Finding> {
    let mut flow = participants();
    change(&mut flow);
    Choreography::of(flow.to_vec()).check()
}

fn places(findings: &[Finding]) -> Vec<(Rule, &'static str, &'static str)> {
    findings.iter().map(|f| (f.rule, f.participant, f.step.unwrap_or_default())).collect()
}

fn found(change: impl FnOnce(&mut Travel)) -> Vec<(Rule, &'static str, &'static str)> {
    places(&findings(change))
}

#[test]
fn a_fork_a_join_and_parallel_compensations_keep_every_rule() {
    assert_eq!(travel_flow().check(), []);
    for declaration in participants() {
        assert_eq!(declaration.check(), [], "{}", declaration.participant);
    }
}

#[test]
fn branches_that_listen_to_each_others_refusals_keep_every_rule() {
    assert_eq!(Choreography::of(participants_that_listen().to_vec()).check(), []);
}

#[test]
fn a_join_needs_no_counter_no_dummy_compensation_no_dummy_event_and_no_event_to_oneself() {
    let flow = travel_flow();
    assert_eq!(flow.check(), []);
    let of = |name: &str, kind| {
        flow.nodes().iter().filter(|n| n.participant == name && n.kind == kind).map(|n| n.name).collect::<Vec<_>>()
    };
    assert_eq!(of("payment", NodeKind::Action), ["charge"], "one step waits for three events; none counts them");
    assert_eq!(of("trip", NodeKind::Action), ["register", "confirm", "cancel"]);
    assert!(of("trip", NodeKind::Compensation).is_empty(), "what only waits is not compensated");
    for declaration in flow.declarations() {
        let (published, consumed): (Vec<EventKey>, Vec<EventKey>) =
            (declaration.published().map(Into::into).collect(), declaration.consumed().map(Into::into).collect());
        // The trip's own request starts its record of the trip.
        let to_oneself: Vec<_> = published.iter().filter(|e| consumed.contains(e)).map(|e| e.name).collect();
        let own = if declaration.participant == "trip" { vec!["trip.requested"] } else { Vec::new() };
        assert_eq!(to_oneself, own);
        for step in declaration.steps.iter().filter(|step| step.compensation.is_some()) {
            assert!(!step.success.is_empty(), "{} compensates something", step.name);
        }
    }
    for (event, node) in flow.events() {
        let consumers: Vec<_> = flow.consumers(event).collect();
        assert!(node.end.is_some() || !consumers.is_empty(), "{event} is for somebody");
    }
}

#[test]
fn a_join_without_a_deadline_is_found() {
    let found = findings(|flow| flow[4].steps[0].arrivals_deadline = None);
    // Nothing publishes the deadline's event any more.
    assert!(found.iter().any(|f| f.rule == Rule::ConsumedIsPublished));
    let of_wait: Vec<_> = found.iter().filter(|f| f.rule == Rule::WaitsHaveDeadlines).collect();
    assert_eq!(of_wait.len(), 1);
    assert_eq!(
        of_wait[0].to_string(),
        "[waits-have-deadlines] payment: charge waits for flight.reserved/1, hotel.reserved/1 and car.reserved/1 and would wait \
         for ever for one that does not come: add .arrivals_within(..) to it, or .saga_deadline(..) to an earlier step of its \
         participant"
    );
    let mut alone = participants()[4].clone();
    alone.steps[0].arrivals_deadline = None;
    assert_eq!(
        places(&alone.check()),
        [(Rule::WaitsHaveDeadlines, "payment", "charge")],
        "its participant does not start"
    );
}

#[test]
fn a_limit_of_arrivals_on_a_step_that_waits_for_one_event_is_found() {
    let found = found(|flow| flow[4].steps[0].triggers = events(&["flight.reserved"]).into());
    assert!(found.contains(&(Rule::WaitsHaveDeadlines, "payment", "charge")), "{found:?}");
}

#[test]
fn a_join_is_limited_by_an_earlier_deadline_of_its_participant() {
    let limited = |change: fn(&mut Declaration)| {
        found(|flow| change(&mut flow[0])).into_iter().filter(|(rule, ..)| *rule == Rule::WaitsHaveDeadlines).collect()
    };
    let found: Vec<_> = limited(|trip| trip.steps[0].deadline = trip.steps[0].saga_deadline.take());
    assert_eq!(found, []);
    let cancel = (Rule::WaitsHaveDeadlines, "trip", "cancel");
    let found: Vec<_> = limited(|trip| trip.steps[0].saga_deadline = None);
    assert_eq!(found, [(Rule::WaitsHaveDeadlines, "trip", "register"), cancel]);
    // A deadline that begins with a later step does not run in every trip that is cancelled.
    let found: Vec<_> = limited(|trip| trip.steps[1].saga_deadline = trip.steps[0].saga_deadline.take());
    assert!(found.contains(&cancel), "{found:?}");
}

#[test]
fn one_event_in_two_parts_of_a_join_is_found() {
    let twice = |flow: &mut Travel| {
        flow[4].steps[0].triggers =
            all_of(&[&["flight.reserved"], &["hotel.reserved", "flight.reserved"], &["car.reserved"]]);
    };
    assert_eq!(found(twice), [(Rule::JoinPartsAreDistinct, "payment", "charge")]);
    let mut flow = participants();
    twice(&mut flow);
    assert_eq!(places(&flow[4].check()), [(Rule::JoinPartsAreDistinct, "payment", "charge")], "it does not start");
}

#[test]
fn one_event_in_two_joins_of_a_participant_is_found() {
    let both = |flow: &mut Travel| {
        let note = StepSpec { triggers: all_of(&[&["flight.reserved"], &["hotel.reserved"]]), ..step("note", &[]) };
        flow[4].steps.push(StepSpec { arrivals_deadline: deadline("payment.expired"), ..note });
    };
    let mut flow = participants();
    both(&mut flow);
    let found: Vec<_> = flow[4].check().into_iter().map(|f| (f.rule, f.event)).collect();
    let twice = |event| (Rule::OneStepPerEvent, Some(event));
    assert_eq!(found, [twice("flight.reserved"), twice("hotel.reserved")], "it does not start");
}

#[test]
fn a_join_of_a_success_and_a_refusal_of_one_step_never_completes() {
    let found = findings(|flow| {
        flow[4].steps[0].triggers =
            all_of(&[&["flight.reserved"], &["flight.rejected"], &["hotel.reserved"], &["car.reserved"]]);
        let refund = flow[4].steps[0].compensation.as_mut().unwrap();
        refund.triggers = events(&["hotel.rejected", "car.rejected", "trip.cancellation_requested"]).into();
    });
    let rules: Vec<_> = found.iter().map(|f| (f.rule, f.step.unwrap_or_default())).collect();
    assert_eq!(rules, [(Rule::JoinsCanComplete, "charge")], "{found:#?}");
    assert!(
        found[0].message.contains("flight.reserved/1 and for flight.rejected/1, which never happen"),
        "{}",
        found[0]
    );
}

/// The hotel is chosen in town or by the sea, and each is confirmed by the hotel's own participant.
fn with_a_choice(flow: &mut Travel, parts: &[&[&'static str]]) {
    flow[2].steps[0].success = Emits::one_of([events(&["hotel.in_town"]), events(&["hotel.by_sea"])]);
    flow[4].steps[0].triggers = all_of(parts);
}

#[test]
fn a_join_of_two_alternatives_of_a_choice_never_completes() {
    let found = found(|flow| {
        with_a_choice(flow, &[&["flight.reserved"], &["hotel.in_town"], &["hotel.by_sea"], &["car.reserved"]]);
    });
    assert_eq!(found, [(Rule::JoinsCanComplete, "payment", "charge")]);
}

#[test]
fn a_join_that_one_alternative_of_a_choice_does_not_reach_is_found() {
    let beside = |flow: &mut Travel| {
        with_a_choice(flow, &[&["flight.reserved"], &["hotel.in_town"], &["car.reserved"]]);
        // By the sea there is nothing to wait for.
        flow[0].ends.push(End { event: event("trip.postponed"), ending: Ending::Completed });
        flow[0].steps.push(StepSpec { success: event("trip.postponed").into(), ..step("postpone", &["hotel.by_sea"]) });
    };
    let found = findings(beside);
    // The deadline of the join passes at the payment, which does not know that the trip was postponed.
    let expected = [(Rule::JoinsCanComplete, "payment", "charge"), (Rule::CancellationsEnterLast, "hotel", "reserve")];
    assert_eq!(places(&found), expected);
    assert!(
        found[0].message.contains("hotel.in_town/1, which does not happen when reserve ends with hotel.by_sea/1"),
        "{}",
        found[0]
    );
}

#[test]
fn a_short_branch_that_ends_the_saga_beside_a_join_is_found() {
    // The trip is confirmed when the flight is reserved, and its record of all three is closed.
    let beside = |owner: usize| {
        findings(move |flow| {
            let ready = StepSpec { success: event("trip.recorded").into(), ..step("record", &[]) };
            let parts: [&[&'static str]; 2] = [&["hotel.reserved"], &["car.reserved"]];
            let triggers = all_of(&parts);
            let arrivals_deadline = deadline("trip.not_recorded");
            flow[owner].steps.push(StepSpec { triggers, arrivals_deadline, ..ready });
            flow[0].steps[1].triggers = events(&["flight.reserved"]).into();
        })
    };
    let of_ends = |found: &[Finding]| found.iter().filter(|f| f.message.contains("ends the saga")).count();
    let found = beside(0);
    let finding = found.iter().find(|f| f.step == Some("record") && f.rule == Rule::JoinsCanComplete).unwrap();
    assert!(
        finding.message.contains("when trip.confirmed/1 ends the saga for its participant, which closes it"),
        "{finding}"
    );
    assert_eq!(of_ends(&beside(1)), 0, "another participant does not end the saga");
}

#[test]
fn an_answer_from_outside_to_one_alternative_of_a_choice_is_no_finding() {
    // By the sea the customer is asked, and the answer leads on.
    let asked = |flow: &mut Travel, parts: &[&[&'static str]]| {
        with_a_choice(flow, &[&["flight.reserved"], &["hotel.in_town", "trip.accepted"], &["car.reserved"]]);
        flow[0].publishes.push(event("trip.answered"));
        let answer = StepSpec { triggers: all_of(parts), ..step("answer", &[]) };
        flow[0].steps.push(StepSpec { success: event("trip.accepted").into(), ..answer });
    };
    let incomplete = |parts: &[&[&'static str]]| {
        let mut found = found(|flow| asked(flow, parts));
        found.retain(|(rule, ..)| *rule == Rule::JoinsCanComplete);
        found
    };
    assert_eq!(incomplete(&[&["hotel.by_sea"], &["trip.answered"]]), []);
    // The flight is reserved whether the customer is asked or not.
    let waiting = [(Rule::JoinsCanComplete, "trip", "answer")];
    assert_eq!(incomplete(&[&["hotel.by_sea"], &["flight.reserved"]]), waiting);
}

#[test]
fn alternatives_of_a_choice_are_one_part() {
    let parts: [&[&str]; 3] = [&["flight.reserved"], &["hotel.in_town", "hotel.by_sea"], &["car.reserved"]];
    assert_eq!(found(|flow| with_a_choice(flow, &parts)), []);
}

#[test]
fn a_charge_after_the_first_of_several_answers_is_found() {
    let first = |flow: &mut Travel| {
        flow[4].steps[0].triggers = events(&["flight.reserved", "hotel.reserved", "car.reserved"]).into();
        flow[4].steps[0].arrivals_deadline = None;
        for branch in &mut flow[1..4] {
            let release = branch.steps[0].compensation.as_mut().unwrap();
            release.triggers = events(&["payment.declined", "payment.refunded"]).into();
        }
    };
    let found = findings(first);
    assert!(found.iter().any(|f| f.rule == Rule::AlternativesAreExclusive), "{found:#?}");
    let first = found.iter().find(|f| f.rule == Rule::AlternativesAreExclusive).unwrap();
    assert_eq!(
        first.message,
        "charge runs after the first of flight.reserved/1 and hotel.reserved/1, which both happen in one saga, and ignores the \
         second: wait for both with a tuple, or remove one of them"
    );
}

#[test]
fn a_step_after_the_first_of_two_steps_in_sequence_is_found() {
    let found = super::places(|flow| also(&mut flow[0].steps[1].triggers, event("payment.charged")));
    assert!(found.contains(&(Rule::AlternativesAreExclusive, "order", "confirm", "payment.charged")), "{found:?}");
}

#[test]
fn a_trip_that_is_cancelled_after_the_first_release_is_found() {
    let found = found(|flow| {
        let released = ["flight.released", "hotel.released", "car.released"];
        flow[0].steps[2].triggers = events(&released).into();
        // What else the branches publish is not answered then.
        let refund = flow[4].steps[0].compensation.as_ref().unwrap();
        assert!(refund.triggers.iter().any(|e| e.name == "flight.rejected"));
    });
    assert_eq!(found, [(Rule::AlternativesAreExclusive, "trip", "cancel")]);
}

#[test]
fn a_refusal_and_the_compensation_of_the_same_step_are_one_thing() {
    // Both are triggers of the order's cancel, and of each part of the trip's.
    assert_eq!((order_flow().check(), travel_flow().check()), (vec![], vec![]));
}

#[test]
fn a_join_that_a_failure_leaves_waiting_is_found() {
    // The hotel that refuses is not released, so it is not enough to wait for releases.
    let mut flow = participants_that_listen();
    flow[0].steps[2].triggers =
        all_of(&[&["flight.rejected", "flight.released"], &["hotel.released"], &["car.rejected", "car.released"]]);
    let refund = flow[4].steps[0].compensation.as_mut().unwrap();
    refund.triggers = events(&["flight.rejected", "car.rejected", "trip.cancellation_requested"]).into();
    let found = Choreography::of(flow.to_vec()).check();
    assert_eq!(places(&found), [(Rule::PathsEnd, "trip", "cancel")], "{found:#?}");
    assert_eq!(found[0].event, Some("hotel.rejected"));
    assert!(
        found[0].message.starts_with("cancel waits for hotel.released/1, which does not follow from hotel.rejected/1")
    );
}

#[test]
fn a_compensation_that_waits_for_what_a_failure_does_not_lead_to_is_found() {
    let found = found(|flow| {
        let release = flow[1].steps[0].compensation.as_mut().unwrap();
        release.triggers =
            all_of(&[&["payment.refunded", "payment.expired"], &["hotel.released"], &["payment.declined"]]);
    });
    assert!(
        found.iter().all(|(rule, ..)| *rule == Rule::CompensationsAreReached || *rule == Rule::PathsEnd),
        "{found:?}"
    );
    assert!(found.contains(&(Rule::CompensationsAreReached, "flight", "reserve")), "{found:?}");
}

#[test]
fn an_event_that_is_requested_while_a_join_waits_starts_no_saga() {
    let mut flow = participants();
    flow[0].publishes.push(event("trip.approved"));
    flow[4].steps[0].triggers =
        all_of(&[&["flight.reserved"], &["hotel.reserved"], &["car.reserved"], &["trip.approved"]]);
    let flow = Choreography::of(flow.to_vec());
    assert_eq!(flow.starts(), [EventKey::from(event("trip.requested"))]);
    assert_eq!(flow.check(), []);
}

#[test]
fn a_cycle_through_a_join_is_found() {
    let mut alone = trip();
    alone.steps[1].triggers = all_of(&[&["payment.charged"], &["trip.confirmed"]]);
    assert!(alone.check().iter().any(|f| f.rule == Rule::StepsDoNotCycle));
}

#[test]
fn two_starts_of_one_step_are_no_finding() {
    let found = super::places(|flow| {
        flow[0].publishes.push(event("order.imported"));
        flow[..2].iter_mut().for_each(|it| also(&mut it.steps[0].triggers, event("order.imported")));
    });
    assert_eq!(found, []);
}

#[test]
fn a_join_of_what_follows_from_the_end_of_its_participant_is_found() {
    let found = found(|flow| {
        let file = |trigger: &'static str, done: &'static str| StepSpec {
            success: event(done).into(),
            until_it_succeeds: true,
            ..step("file", &[trigger])
        };
        flow[1].steps.push(file("trip.confirmed", "flight.filed"));
        flow[2].steps.push(file("trip.confirmed", "hotel.filed"));
        let archive = StepSpec { triggers: all_of(&[&["flight.filed"], &["hotel.filed"]]), ..step("archive", &[]) };
        flow[0].steps.push(StepSpec { until_it_succeeds: true, ..archive });
    });
    assert!(found.contains(&(Rule::JoinsCanComplete, "trip", "archive")), "{found:?}");
}

#[test]
fn rounds_that_end_in_a_refusal_limit_the_wait_beside_them() {
    let mut trip = participants()[0].clone();
    let ask =
        StepSpec { rounds: Some(3), refusal: event("trip.unanswered").into(), ..step("ask", &["trip.requested"]) };
    let answer = StepSpec { triggers: all_of(&[&["trip.asked"], &["trip.answered"]]), ..step("answer", &[]) };
    trip.steps = vec![ask, answer];
    let waits = |trip: &Declaration| trip.check().iter().any(|f| f.rule == Rule::WaitsHaveDeadlines);
    assert!(!waits(&trip) || !trip.check().iter().any(|f| f.step == Some("answer")), "{:#?}", trip.check());
}

//! Flows with an optional participant: nothing waits for it, and it needs nothing that others need.

use super::*;
use crate::graph::{SagaStatus, fixture::key};

/// Tells the customer of what happened; its mails may bounce.
fn mail() -> Declaration {
    let tell = StepSpec {
        success: event("mail.sent").into(),
        refusal: event("mail.bounced").into(),
        ..step("tell", &["payment.charged"])
    };
    let thank = StepSpec { success: event("mail.thanked").into(), ..step("thank", &["order.confirmed"]) };
    Declaration { optional: true, ..participant("mail", vec![tell, thank]) }
}

/// The order flow with a mail, after one change.
fn found(change: impl FnOnce(&mut [Declaration; 5])) -> Vec<(Rule, &'static str, &'static str)> {
    let mut flow = [order(), inventory(), payment(), shipping(), mail()];
    change(&mut flow);
    let place = |f: Finding| (f.rule, f.participant, f.event.unwrap_or_default());
    Choreography::of(flow.to_vec()).check().into_iter().map(place).collect()
}

fn awaited(event: &'static str) -> (Rule, &'static str, &'static str) {
    (Rule::OptionalIsNotAwaited, "mail", event)
}

#[test]
fn an_optional_participant_needs_neither_compensation_nor_deadline_nor_consumer_nor_end() {
    assert_eq!(found(|_| ()), []);
    let rules = found(|flow| flow[4].optional = false).into_iter().map(|(rule, ..)| rule).collect::<Vec<_>>();
    assert!(rules.contains(&Rule::PublishedIsConsumed) && rules.contains(&Rule::WaitsHaveDeadlines), "{rules:?}");
}

#[test]
fn a_participant_that_waits_for_an_optional_one_is_found() {
    assert_eq!(found(|flow| flow[0].steps.push(step("note", &["mail.sent"]))), [awaited("mail.sent")]);
    let compensates = |flow: &mut [Declaration; 5]| {
        release_triggers(&mut flow[..4], &["payment.declined", "payment.refunded", "mail.bounced"]);
    };
    assert_eq!(found(compensates), [awaited("mail.bounced")]);
}

#[test]
fn an_optional_participant_may_wait_for_another() {
    let archive = StepSpec { success: event("mail.archived").into(), ..step("archive", &["mail.sent"]) };
    let flow = [order(), inventory(), payment(), shipping(), mail()];
    let archive = Declaration { optional: true, ..participant("archive", vec![archive]) };
    assert_eq!(Choreography::of(flow.into_iter().chain([archive]).collect()).check(), []);
}

#[test]
fn an_optional_participant_that_ends_sagas_is_found() {
    let end = End { event: event("mail.thanked"), ending: Ending::Completed };
    assert_eq!(found(|flow| flow[4].ends.push(end)), [awaited("mail.thanked")]);
    assert_eq!(found(|flow| flow[0].ends.push(end)), [awaited("mail.thanked")], "also when another declares the end");
    let alone = Declaration { ends: vec![end], ..mail() };
    assert_eq!(alone.check().len(), 1, "it does not start");
}

#[test]
fn an_optional_participant_with_a_pivot_is_found() {
    assert_eq!(found(|flow| flow[4].steps[0].pivot = true), [awaited("")]);
}

#[test]
fn a_refusal_that_only_an_optional_participant_consumes_is_found() {
    let found = found(|flow| {
        flow[0].steps[2].triggers = events(&["inventory.released"]).into();
        flow[4].steps.push(step("tell_why", &["inventory.rejected"]));
    });
    assert_eq!(found, [(Rule::RefusalsAreAnswered, "inventory", "inventory.rejected")]);
}

#[test]
fn a_path_that_stops_at_an_optional_participant_is_found() {
    let noted = |alternatives: &[&[&'static str]]| {
        let success = Emits::one_of(alternatives.iter().map(|at_once| events(at_once)));
        found(|flow| {
            flow[2].steps[0].success = success;
            flow[4].steps.push(step("note", &["payment.noted"]));
        })
    };
    let stops = [(Rule::PathsEnd, "payment", "payment.noted")];
    assert_eq!(noted(&[&["payment.charged"], &["payment.noted"]]), stops, "an alternative that nobody goes on with");
    assert_eq!(noted(&[&["payment.charged", "payment.noted"]]), [], "the saga goes on with the other event");
}

#[test]
fn what_an_optional_participant_does_says_nothing_of_the_saga() {
    let mut notified = mail();
    notified.steps.push(step("tell_that", &["order.cancellation_requested"]));
    let flow = Choreography::of(vec![order(), inventory(), payment(), shipping(), notified]);
    assert_eq!(flow.starts(), [key("order.created")], "a cancellation that is also told of starts no saga");
    let seen = ["order.created", "inventory.reserved", "payment.charged"];
    let state = flow.state(seen);
    assert_eq!(state.expected.iter().map(|expected| expected.node.step).collect::<Vec<_>>(), ["schedule"]);
    let state = flow.state(seen.into_iter().chain(["mail.bounced"]));
    assert_eq!(state.status, SagaStatus::Forward);
    assert!(flow.to_mermaid().contains("subgraph mail[\"mail (optional)\"]"));
}

#[test]
fn an_optional_participant_is_read_as_it_was_written() {
    let document = mail().to_json();
    assert_eq!((&document["optional"], order().to_json().get("optional")), (&json!(true), None));
    assert_eq!(Declaration::read_all(&serde_json::to_vec(&document).unwrap()).unwrap(), [mail()]);
}

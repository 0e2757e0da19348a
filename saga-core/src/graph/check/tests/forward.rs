//! Steps after the pivot, which are retried until they succeed.

use super::*;

/// The order flow with a parcel that is handed over once the order is confirmed, and a mail after it.
fn found(change: impl FnOnce(&mut StepSpec, &mut StepSpec)) -> Vec<(Rule, &'static str, &'static str)> {
    let mut hand_over = StepSpec { success: event("parcel.sent").into(), ..step("hand_over", &["order.confirmed"]) };
    let mut file = step("file", &["parcel.sent"]);
    change(&mut hand_over, &mut file);
    let mut order = order();
    order.ends.push(End { event: event("parcel.sent"), ending: Ending::Completed });
    let parcel = participant("parcel", vec![hand_over, file]);
    let place = |f: Finding| (f.rule, f.participant, f.step.unwrap_or_default());
    let findings = Choreography::of(vec![order, inventory(), payment(), shipping(), parcel]).check();
    findings.into_iter().filter(|finding| finding.rule == Rule::ForwardStepsAreRetried).map(place).collect()
}

#[test]
fn a_step_after_the_pivot_that_gives_up_is_found() {
    let finding = |step| (Rule::ForwardStepsAreRetried, "parcel", step);
    assert_eq!(found(|_, _| ()), [finding("hand_over"), finding("file")]);
    assert_eq!(found(|hand_over, _| hand_over.until_it_succeeds = true), [finding("file")]);
    assert_eq!(found(|hand_over, file| (hand_over.until_it_succeeds, file.until_it_succeeds) = (true, true)), []);
}

#[test]
fn a_step_after_the_pivot_that_may_refuse_goes_on_from_its_refusal() {
    let refuses = |hand_over: &mut StepSpec, file: &mut StepSpec| {
        hand_over.refusal = event("parcel.returned").into();
        file.until_it_succeeds = true;
    };
    assert_eq!(found(refuses), []);
}

#[test]
fn the_steps_before_the_pivot_and_the_pivot_itself_may_give_up() {
    assert!(order_flow().check().is_empty());
}

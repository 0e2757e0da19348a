//! The truth table of the barrier, and what it says to parts of joins.

use super::*;

const MARKS: [Option<Mark>; 9] = [
    None,
    Some(Mark::Started),
    Some(Mark::Done),
    Some(Mark::Refused),
    Some(Mark::Null),
    Some(Mark::Voiding),
    Some(Mark::Waiting),
    Some(Mark::Again),
    Some(Mark::Failed),
];

/// The truth table, written out: (action row, compensation row) -> verdict for an action, verdict for a compensation.
#[rustfmt::skip]
fn expected(action: Option<Mark>, compensation: Option<Mark>) -> (Verdict, Verdict) {
    use Mark::*;
    use Verdict::*;
    let duplicate = Verdict::Skip(super::Skip::Duplicate);
    let late = Verdict::Skip(super::Skip::Late);
    match (action, compensation) {
        (None,          None)          => (Run,       NullCompensation),
        (Some(Started), None)          => (Run,       Run),
        (Some(Done),    None)          => (duplicate, Run),
        (Some(Refused), None)          => (duplicate, NullCompensation),
        (Some(Null),    None)          => (late,      NullCompensation),
        (Some(Voiding), None)          => (Void,      Run),
        (Some(Waiting), None)          => (Run,       NullCompensation),
        (Some(Again),   None)          => (Run,       Run),
        (Some(Again),   Some(Waiting)) => (Run,       Run),
        (Some(Voiding), Some(Waiting)) => (Void,      Run),
        (Some(Started), Some(Waiting)) => (Run,       Run),
        (Some(Again),   Some(Started)) => (late,      Run),
        (Some(Voiding), Some(Started)) => (late,      Run),
        (Some(Started), Some(Started)) => (late,      Run),
        // No action fails at best effort. A row that said so would be no reason to run it again.
        (Some(Failed),  None)          => (duplicate, Run),
        (Some(Failed),  Some(Started | Waiting)) => (late, Run),
        (Some(Done),    Some(Started | Waiting)) => (late, Run),
        (None,          Some(Started | Waiting)) => (late, NullCompensation),
        (Some(Refused), Some(Started | Waiting)) => (late, NullCompensation),
        (Some(Null),    Some(Started | Waiting)) => (late, NullCompensation),
        (Some(Waiting), Some(Started | Waiting)) => (late, NullCompensation),
        (_,             Some(_))       => (late,      duplicate),
    }
}

fn event(id: u128, event_type: &str) -> Cause {
    Cause { id: Uuid::from_u128(id), event_type: event_type.to_owned() }
}

fn row(mark: Option<Mark>, cause: Option<Cause>) -> Option<Row> {
    mark.map(|mark| Row { mark, cause, effect_key: None, round: 0 })
}

fn combinations() -> impl Iterator<Item = (Option<Mark>, Option<Mark>)> {
    MARKS.into_iter().flat_map(|action| MARKS.into_iter().map(move |compensation| (action, compensation)))
}

#[test]
fn every_combination_of_rows_has_the_verdict_of_the_truth_table() {
    let same = event(1, "order.created");
    for (action, compensation) in combinations() {
        let rows = (row(action, Some(same.clone())), row(compensation, Some(same.clone())));
        let before = Before { action: rows.0, compensation: rows.1, ..Before::default() };
        let (on_action, on_compensation) = expected(action, compensation);
        assert_eq!(decide(Op::Action, &same, &before, &Triggers::default()), on_action, "action on {before:?}");
        assert_eq!(
            decide(Op::Compensate, &same, &before, &Triggers::default()),
            on_compensation,
            "compensation on {before:?}"
        );
    }
}

#[test]
fn a_parked_saga_queues_new_events_and_skips_handled_ones() {
    let same = event(1, "order.created");
    for (action, compensation) in combinations() {
        let rows = (row(action, Some(same.clone())), row(compensation, Some(same.clone())));
        let free = Before { action: rows.0, compensation: rows.1, ..Before::default() };
        let parked = Before { parked: true, ..free.clone() };
        for op in [Op::Action, Op::Compensate] {
            let expected = match decide(op, &same, &free, &Triggers::default()) {
                skip @ Verdict::Skip(_) => skip,
                _ => Verdict::Queue,
            };
            assert_eq!(decide(op, &same, &parked, &Triggers::default()), expected, "{op:?} on {parked:?}");
        }
    }
}

#[test]
fn a_round_that_is_committed_is_not_run_again_and_the_round_that_is_due_runs() {
    let (same, other) = (event(1, "order.created"), event(2, "order.moved"));
    let waits = |mark, parked| {
        let action = row(Some(mark), Some(same.clone())).map(|row| Row { round: 2, ..row });
        Before { action, parked, ..Before::default() }
    };
    let one = Triggers::default();
    let decide = |cause, round, before| decide_round(Op::Action, cause, round, &before, &one);
    for (mark, due) in [(Mark::Again, Verdict::Run), (Mark::Started, Verdict::Run), (Mark::Voiding, Verdict::Void)] {
        assert_eq!(decide(&same, 2, waits(mark, false)), due, "{mark:?}");
        for round in [0, 1] {
            assert_eq!(decide(&same, round, waits(mark, false)), Verdict::Skip(Skip::Duplicate), "{mark:?}");
            // It may be a dead letter that comes back.
            assert_eq!(decide(&same, round, waits(mark, true)), Verdict::Queue, "{mark:?}");
        }
        for parked in [false, true] {
            assert_eq!(decide(&other, 0, waits(mark, parked)), Verdict::Skip(Skip::Alternative), "{mark:?}");
        }
        let compensation = decide_round(Op::Compensate, &other, 0, &waits(mark, false), &one);
        assert_eq!(compensation, Verdict::Run, "a checkpoint is compensated: {mark:?}");
    }
}

#[test]
fn a_skipped_event_is_classified_by_its_relation_to_the_earlier_one() {
    let first = event(1, "shipping.rejected");
    for (known, later, skip) in [
        (Some(first.clone()), event(1, "shipping.rejected"), Skip::Duplicate),
        (Some(first.clone()), event(2, "shipping.rejected"), Skip::Repetition),
        (Some(first.clone()), event(2, "shipping.cancelled"), Skip::Alternative),
        (None, event(2, "shipping.rejected"), Skip::Duplicate),
    ] {
        let before = Before { action: row(Some(Mark::Done), known.clone()), ..Before::default() };
        assert_eq!(decide(Op::Action, &later, &before, &Triggers::default()), Verdict::Skip(skip));
        let compensation = row(Some(Mark::Done), known);
        let before = Before { compensation, ..before };
        assert_eq!(decide(Op::Compensate, &later, &before, &Triggers::default()), Verdict::Skip(skip));
    }
}

fn trip() -> Triggers {
    let part = |names: &[&'static str]| names.iter().map(|name| crate::graph::fixture::event(name)).collect();
    Triggers::all_of([part(&["flight.reserved"]), part(&["hotel.rejected", "hotel.released"])])
}

fn arrived(cause: Cause) -> Arrival {
    Arrival { cause, version: 1, data: Vec::new(), partly_compensated: false }
}

fn waiting(arrivals: &[Cause]) -> Before {
    let arrivals = arrivals.iter().cloned().map(arrived).collect();
    Before { action: row(Some(Mark::Waiting), None), arrivals, ..Before::default() }
}

#[test]
fn a_join_runs_with_the_last_part_and_stores_the_others() {
    let (flight, hotel) = (event(1, "flight.reserved"), event(2, "hotel.released"));
    let on = |cause: &Cause, before: &Before| decide(Op::Action, cause, before, &trip());
    assert_eq!(on(&flight, &Before::default()), Verdict::Arrive);
    assert_eq!(on(&hotel, &Before::default()), Verdict::Arrive);
    assert_eq!(on(&hotel, &waiting(std::slice::from_ref(&flight))), Verdict::Run);
    assert_eq!(on(&flight, &waiting(&[hotel])), Verdict::Run);
}

#[test]
fn a_part_that_has_arrived_counts_once_in_whatever_state_its_join_is() {
    let flight = event(1, "flight.reserved");
    let released = event(2, "hotel.released");
    for mark in MARKS.into_iter().flatten().filter(|mark| *mark != Mark::Null) {
        let before = Before { action: row(Some(mark), None), ..waiting(&[flight.clone(), released.clone()]) };
        let skipped = |cause: Cause| match decide(Op::Action, &cause, &before, &trip()) {
            Verdict::Skip(skip) => Some(skip),
            _ => None,
        };
        assert_eq!(skipped(flight.clone()), Some(Skip::Duplicate), "{mark:?}");
        assert_eq!(skipped(event(7, "flight.reserved")), Some(Skip::Repetition), "{mark:?}");
        assert_eq!(skipped(event(8, "hotel.rejected")), Some(Skip::Alternative), "{mark:?}");
    }
}

#[test]
fn the_event_that_completes_a_join_resumes_an_effect_that_was_started() {
    let started = Before { action: row(Some(Mark::Started), None), ..waiting(&[event(1, "flight.reserved")]) };
    assert_eq!(decide(Op::Action, &event(2, "hotel.released"), &started, &trip()), Verdict::Run);
    let voiding = Before { action: row(Some(Mark::Voiding), None), ..started };
    assert_eq!(decide(Op::Action, &event(2, "hotel.released"), &voiding, &trip()), Verdict::Void);
}

#[test]
fn what_a_version_without_the_join_has_begun_is_not_stored_as_an_arrival() {
    let begun = Before { action: row(Some(Mark::Started), None), ..Before::default() };
    assert_eq!(decide(Op::Action, &event(2, "hotel.released"), &begun, &trip()), Verdict::Run);
}

#[test]
fn a_part_is_late_once_its_saga_has_ended() {
    let ended = Before { ended: true, ..waiting(&[event(1, "flight.reserved")]) };
    assert_eq!(decide(Op::Action, &event(2, "hotel.released"), &ended, &trip()), Verdict::Skip(Skip::Late));
}

#[test]
fn a_part_is_late_once_its_join_was_closed() {
    let flight = event(1, "flight.reserved");
    let cancelled = Before { compensation: row(Some(Mark::Done), None), ..waiting(std::slice::from_ref(&flight)) };
    for before in [
        Before { action: row(Some(Mark::Null), None), ..waiting(std::slice::from_ref(&flight)) },
        // Its deadline passed.
        Before { action: row(Some(Mark::Refused), None), ..waiting(&[flight]) },
        cancelled,
    ] {
        assert_eq!(decide(Op::Action, &event(2, "hotel.rejected"), &before, &trip()), Verdict::Skip(Skip::Late));
    }
}

#[test]
fn a_compensation_that_is_a_join_waits_for_all_its_parts_too() {
    let (flight, hotel) = (event(1, "flight.reserved"), event(2, "hotel.rejected"));
    let done = Before { action: row(Some(Mark::Done), None), ..Before::default() };
    assert_eq!(decide(Op::Compensate, &flight, &done, &trip()), Verdict::Arrive);
    let arrivals = vec![arrived(flight)];
    let waits = Before { compensation: row(Some(Mark::Waiting), None), arrivals, ..done };
    assert_eq!(decide(Op::Compensate, &hotel, &waits, &trip()), Verdict::Run);
    let null = Before { action: row(Some(Mark::Null), None), ..waits };
    assert_eq!(decide(Op::Compensate, &hotel, &null, &trip()), Verdict::NullCompensation);
}

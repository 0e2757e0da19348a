//! The barrier rules: what to do with an event, given what this participant has already done in its saga.
//!
//! Source of the rules: the sub-transaction barrier of DTM, extended for choreography. A refusal is a committed
//! outcome. A null compensation still publishes its event, so that the chain of compensations goes on.
//! [`Mark::Started`] covers a crash between an outside effect and the commit that records it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::graph::Triggers;

/// Which half of a step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// The action: the step itself.
    Action,
    /// The compensation of the step.
    Compensate,
}

/// The state that a barrier row records.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// The outside effect may have been called; its result is not recorded.
    Started,
    /// The action or the compensation is committed.
    Done,
    /// The action ended in a refusal: there is nothing to compensate.
    Refused,
    /// The compensation came first: the action must never run.
    Null,
    /// The action's retries are used up and its effect is being voided: the action can only end in a refusal.
    Voiding,
    /// Joins only: some parts have arrived, and nothing was done yet.
    Waiting,
    /// The action has committed a checkpoint and waits for its next round.
    Again,
    /// Compensations at best effort only: it failed for good, and its event says so. It is not tried again.
    Failed,
}

/// The event that wrote a barrier row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cause {
    /// See [`crate::identity::cause`].
    pub id: Uuid,
    /// The event's type.
    pub event_type: String,
}

/// A barrier row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The state that the row records.
    pub mark: Mark,
    /// The event that wrote the row; none for a row written before causes were stored.
    pub cause: Option<Cause>,
    /// The idempotency key of the row's effect, stored with [`Mark::Started`]. None for a row without an effect, and
    /// for one written before keys were stored.
    pub effect_key: Option<Uuid>,
    /// The round of the action that runs, or runs next; 0 for the first. Those before it are committed.
    pub round: u32,
}

/// What the participant's tables say about an event's step before the event is admitted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Before {
    /// The saga is parked: the event has to wait behind the parked events.
    pub parked: bool,
    /// The position of a compensation's own parked action in the queue; the compensation takes this position over.
    pub overtakes: Option<i64>,
    /// The action's row.
    pub action: Option<Row>,
    /// The compensation's row.
    pub compensation: Option<Row>,
    /// Joins only: what has arrived, in any order.
    pub arrivals: Vec<Arrival>,
    /// Joins only: the saga has ended at this participant.
    pub ended: bool,
}

/// A part of a join that has arrived: an event, as far as it is needed to run the step later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// The event.
    pub cause: Cause,
    /// The version of its data's schema.
    pub version: u32,
    /// Its data.
    pub data: Vec<u8>,
    /// See [`Envelope::partly_compensated`](crate::envelope::Envelope::partly_compensated).
    pub partly_compensated: bool,
}

impl Before {
    pub(crate) fn row(&self, op: Op) -> Option<&Row> {
        match op {
            Op::Action => self.action.as_ref(),
            Op::Compensate => self.compensation.as_ref(),
        }
    }
}

/// What to do with an event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// Run it (or, after a crash, run it again).
    Run,
    /// Void the effect, then refuse.
    Void,
    /// A compensation with nothing to compensate: call nothing, and publish its event as a null compensation.
    NullCompensation,
    /// Joins only: store the arrival; other parts have not arrived.
    Arrive,
    /// Do nothing, publish nothing; the event counts as handled.
    Skip(Skip),
    /// Append it to the parked events of its saga.
    Queue,
}

/// Why an event is skipped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Skip {
    /// The same event was handled before.
    Duplicate,
    /// Another trigger of the same step was handled before: a null compensation after a refusal, for example.
    Alternative,
    /// Another event of the same type was handled before: the same fact was published under two ids.
    Repetition,
    /// An action that comes after its compensation.
    Late,
}

/// The rule, complete over its inputs. An event that was handled before is skipped even while its saga is parked.
///
/// `triggers` are those of the event's half of its step. The event that completes a join is not among the arrivals before the
/// join has ended, so that its redelivery resumes an effect that was started.
pub fn decide(op: Op, cause: &Cause, before: &Before, triggers: &Triggers) -> Verdict {
    decide_round(op, cause, 0, before, triggers)
}

/// The same for an event that is handled for this round of its action: 0 for one that comes from a partition.
pub fn decide_round(op: Op, cause: &Cause, round: u32, before: &Before, triggers: &Triggers) -> Verdict {
    let unfinished = |row: &&Row| op == Op::Action && matches!(row.mark, Mark::Started | Mark::Voiding | Mark::Again);
    let row = before.action.as_ref().filter(unfinished);
    // All parts of a join have arrived before its second round.
    let resumes = round > 0 && row.is_some_and(|row| row.round == round);
    let joins = triggers.is_join() && !resumes;
    let verdict = if joins { join(op, cause, before, triggers) } else { rule(op, cause, before) };
    let verdict = match row.filter(|row| row.round > round) {
        Some(row) if !matches!(verdict, Verdict::Skip(_)) => Verdict::Skip(done_before(cause, Some(row))),
        _ => verdict,
    };
    match verdict {
        // A later round that is dead-lettered may have been published again by an operator.
        Verdict::Skip(Skip::Duplicate) if before.parked && row.is_some_and(|row| row.round > round) => Verdict::Queue,
        skip @ Verdict::Skip(_) => skip,
        _ if before.parked => Verdict::Queue,
        verdict => verdict,
    }
}

fn rule(op: Op, cause: &Cause, before: &Before) -> Verdict {
    let mark = |row: &Option<Row>| row.as_ref().map(|row| row.mark);
    match (op, mark(&before.action), mark(&before.compensation)) {
        // Some parts of its compensation have arrived, and no more: what was begun goes on, or nobody would know of its effect.
        (Op::Action, Some(Mark::Started | Mark::Again), Some(Mark::Waiting)) => Verdict::Run,
        (Op::Action, Some(Mark::Voiding), Some(Mark::Waiting)) => Verdict::Void,
        (Op::Action, Some(Mark::Null), _) | (Op::Action, _, Some(_)) => Verdict::Skip(Skip::Late),
        (Op::Action, None | Some(Mark::Started | Mark::Waiting | Mark::Again), None) => Verdict::Run,
        (Op::Action, Some(Mark::Voiding), None) => Verdict::Void,
        (Op::Action, Some(Mark::Done | Mark::Refused | Mark::Failed), None) => {
            Verdict::Skip(done_before(cause, before.row(op)))
        }
        (
            Op::Compensate,
            _,
            Some(Mark::Done | Mark::Refused | Mark::Null | Mark::Voiding | Mark::Again | Mark::Failed),
        ) => Verdict::Skip(done_before(cause, before.row(op))),
        (
            Op::Compensate,
            Some(Mark::Done | Mark::Started | Mark::Voiding | Mark::Again | Mark::Failed),
            None | Some(Mark::Started | Mark::Waiting),
        ) => Verdict::Run,
        (
            Op::Compensate,
            None | Some(Mark::Null | Mark::Refused | Mark::Waiting),
            None | Some(Mark::Started | Mark::Waiting),
        ) => Verdict::NullCompensation,
    }
}

/// The rule for an event that is a part of a join.
fn join(op: Op, cause: &Cause, before: &Before, triggers: &Triggers) -> Verdict {
    let part_of = |event: &Cause| triggers.part_of(&event.event_type);
    let arrived = |part: Option<usize>| before.arrivals.iter().find(|arrival| part_of(&arrival.cause) == part);
    let own = part_of(cause);
    if let Some(arrival) = arrived(own) {
        return Verdict::Skip(same_half(cause, &arrival.cause));
    }
    let mut others = (0..triggers.parts().count()).map(Some).filter(|part| *part != own);
    match rule(op, cause, before) {
        Verdict::Run | Verdict::Void if before.ended && op == Op::Action && !is_begun(before) => {
            Verdict::Skip(Skip::Late)
        }
        // It ended without this part: it was closed, or a version that did not have the part ran it.
        Verdict::Skip(_) => Verdict::Skip(Skip::Late),
        // What an earlier version, which did not wait, has begun is not stored in silence: it fails for want of its parts.
        Verdict::Run if op == Op::Action && is_begun(before) => Verdict::Run,
        Verdict::Run | Verdict::NullCompensation if others.any(|part| arrived(part).is_none()) => Verdict::Arrive,
        verdict => verdict,
    }
}

/// Whether the action's effect may have been called.
fn is_begun(before: &Before) -> bool {
    before.action.as_ref().is_some_and(|row| matches!(row.mark, Mark::Started | Mark::Voiding | Mark::Again))
}

fn done_before(cause: &Cause, row: Option<&Row>) -> Skip {
    // A row without a cause was written before causes were stored.
    row.and_then(|row| row.cause.as_ref()).map_or(Skip::Duplicate, |known| same_half(cause, known))
}

/// What an event is to an earlier one for the same half of the same step.
fn same_half(cause: &Cause, known: &Cause) -> Skip {
    match () {
        () if known.id == cause.id => Skip::Duplicate,
        () if known.event_type == cause.event_type => Skip::Repetition,
        () => Skip::Alternative,
    }
}

#[cfg(test)]
mod tests {
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
        for (mark, due) in [(Mark::Again, Verdict::Run), (Mark::Started, Verdict::Run), (Mark::Voiding, Verdict::Void)]
        {
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
}

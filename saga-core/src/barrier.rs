//! The barrier rules: what to do with an event, given what this participant has already done in its saga.
//!
//! Source of the rules: the sub-transaction barrier of DTM, extended for choreography. A refusal is a committed outcome
//! rather than a rollback, a null compensation still publishes so that the chain of compensations goes on, and
//! [`Mark::Started`] covers a crash between an outside effect and the commit that records it.

use serde::{Deserialize, Serialize};

/// Which half of a step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// The step itself.
    Action,
    /// What undoes it.
    Compensate,
}

/// What a barrier row says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// The outside effect may have been called; the end is not recorded.
    Started,
    /// Done.
    Done,
    /// The action ended in a refusal: there is nothing to undo.
    Refused,
    /// The compensation came first: the action must never run.
    Null,
    /// The action's retries are used up and its effect is being undone: it can only end in a refusal.
    Voiding,
}

/// What a participant knew about an event's step before it admitted the event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Before {
    /// The event is in the inbox.
    pub handled: bool,
    /// The saga is parked, and the event is not its head.
    pub parked: bool,
    /// The action's row.
    pub action: Option<Mark>,
    /// The compensation's row.
    pub compensation: Option<Mark>,
}

/// What to do with an event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// Run it (or, after a crash, run it again).
    Run,
    /// Make sure that the effect does not hold, then refuse: whatever else the event was about to do.
    Void,
    /// A compensation with nothing to undo: call nothing, publish its event as a null compensation.
    NullCompensation,
    /// Do nothing, publish nothing; the event counts as handled.
    Skip(Skip),
    /// Keep it behind the parked events of its saga.
    Queue,
}

/// Why an event is skipped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Skip {
    /// The same event, or another one with the same meaning, was handled before.
    Duplicate,
    /// An action that comes after its compensation.
    Late,
}

/// The rule, complete over its inputs.
pub fn decide(op: Op, before: Before) -> Verdict {
    if before.handled {
        return Verdict::Skip(Skip::Duplicate);
    }
    if before.parked {
        return Verdict::Queue;
    }
    match (op, before.action, before.compensation) {
        (Op::Action, Some(Mark::Null), _) | (Op::Action, _, Some(_)) => Verdict::Skip(Skip::Late),
        (Op::Action, None | Some(Mark::Started), None) => Verdict::Run,
        (Op::Action, Some(Mark::Voiding), None) => Verdict::Void,
        (Op::Action, Some(Mark::Done | Mark::Refused), None) => Verdict::Skip(Skip::Duplicate),
        (Op::Compensate, _, Some(Mark::Done | Mark::Refused | Mark::Null | Mark::Voiding)) => {
            Verdict::Skip(Skip::Duplicate)
        }
        (Op::Compensate, Some(Mark::Done | Mark::Started | Mark::Voiding), None | Some(Mark::Started)) => Verdict::Run,
        (Op::Compensate, None | Some(Mark::Null | Mark::Refused), None | Some(Mark::Started)) => {
            Verdict::NullCompensation
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: [Option<Mark>; 6] =
        [None, Some(Mark::Started), Some(Mark::Done), Some(Mark::Refused), Some(Mark::Null), Some(Mark::Voiding)];

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
            (Some(Voiding), Some(Started)) => (late,      Run),
            (None,          Some(Started)) => (late,      NullCompensation),
            (Some(Started), Some(Started)) => (late,      Run),
            (Some(Done),    Some(Started)) => (late,      Run),
            (Some(Refused), Some(Started)) => (late,      NullCompensation),
            (Some(Null),    Some(Started)) => (late,      NullCompensation),
            (_,             Some(_))       => (late,      duplicate),
        }
    }

    #[test]
    fn every_combination_of_rows_has_the_verdict_of_the_truth_table() {
        for action in MARKS {
            for compensation in MARKS {
                let before = Before { action, compensation, ..Before::default() };
                let (on_action, on_compensation) = expected(action, compensation);
                assert_eq!(decide(Op::Action, before), on_action, "action on {before:?}");
                assert_eq!(decide(Op::Compensate, before), on_compensation, "compensation on {before:?}");
            }
        }
    }

    #[test]
    fn an_event_in_the_inbox_is_a_duplicate_whatever_the_rows_say() {
        for (action, compensation) in MARKS.into_iter().flat_map(|a| MARKS.into_iter().map(move |c| (a, c))) {
            for parked in [false, true] {
                let before = Before { handled: true, parked, action, compensation };
                for op in [Op::Action, Op::Compensate] {
                    assert_eq!(decide(op, before), Verdict::Skip(Skip::Duplicate));
                }
            }
        }
    }

    #[test]
    fn events_of_a_parked_saga_wait_behind_its_head() {
        for op in [Op::Action, Op::Compensate] {
            assert_eq!(decide(op, Before { parked: true, ..Before::default() }), Verdict::Queue);
        }
    }
}

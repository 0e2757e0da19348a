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
mod tests;

//! Admission: what the barrier decides for each event, and so whether its handler runs.

use crate::runtime::{
    Shared,
    in_flight::{InFlight, Keys, TakenFrom},
    stage::{Happened, Stage},
    transaction::{counts::Count, open::Attempt, publication::Publication, result::Done},
};
use crate::{
    barrier::{Arrival, Before, Mark, Op, Row, Skip, Verdict, decide_round},
    clock::Clock,
    identity,
    outcome::StepError,
    step::{Erased, ErasedStep},
    store::{Admission, Phase, Store},
    transport::Producer,
};

impl<S: Store, P: Producer, C: Clock> Attempt<'_, S, P, C> {
    /// Decides what to do with an event, given what was there before.
    pub(crate) fn decide(&mut self, i: usize, admission: &Admission, before: &Before) -> Result<(), StepError> {
        let (shared, event) = (self.shared, &self.events[i]);
        let step = &shared.participant.steps[event.step];
        let keys = keys(shared, event, before);
        self.overtakes[i] = before.overtakes;
        // The row of a join says `waiting`, also when this transaction made it.
        self.found[i] = admission.joins || before.row(event.op).is_some();
        let arrived_so = before.arrivals.iter().any(|arrival| arrival.partly_compensated);
        self.writes.partly_compensated[i] = event.envelope.partly_compensated || arrived_so;
        let verdict = decide_round(event.op, &admission.cause, event.round, before, step.triggers(event.op));
        let keeps = matches!(event.stage, Stage::Park | Stage::Block);
        if admission.joins && !keeps && matches!(verdict, Verdict::Run | Verdict::Void | Verdict::NullCompensation) {
            self.joined[i] = Some(joined(step, event, &before.arrivals)?);
        }
        if event.op == Op::Compensate && !keeps && mark(&before.action) == Some(Mark::Waiting) {
            self.writes.close(event);
        }
        match (verdict, event.stage) {
            (Verdict::Skip(skip), _) => {
                self.writes.outcomes[i] = Some(skip_name(skip));
                self.writes.counts.push(Count::Skipped(i, skip));
                self.ended(i);
            }
            (_, Stage::Park | Stage::Block) => {
                self.writes.keep(i, event, before.overtakes);
                self.is(i, Happened::Kept, keys);
            }
            (Verdict::Queue, _) => {
                self.writes.queue(event);
                self.writes.outcomes[i] = Some("queued");
                self.is(i, Happened::Ended, keys);
            }
            (Verdict::Arrive, _) => {
                self.writes.waits(shared, event, before.arrivals.is_empty())?;
                // The action goes on until the compensation has all its parts.
                self.overtakes[i] = None;
                self.writes.outcomes[i] = Some("arrived");
                self.ended(i);
            }
            (Verdict::NullCompensation, stage) => {
                let null = step.half(event.op).and_then(|half| half.null.as_ref());
                let null = null.ok_or_else(|| StepError::permanent("the step has no compensation"))?;
                self.writes.outcomes[i] = Some("null_compensation");
                let publication = Publication { null: true, ..self.writes.publication(i) };
                self.writes.publish(shared, event, null(&self.input(i).trigger)?, publication)?;
                if stage != Stage::Whole || self.found[i] {
                    self.writes.mark(event, Mark::Done);
                }
                self.completed(i)?;
                self.ended(i);
            }
            (Verdict::Run, Stage::RecordFailure) => {
                let made = step.half(event.op).and_then(|half| half.null.as_ref());
                let made = made.ok_or_else(|| StepError::permanent("the step has no compensation"))?;
                self.writes.failed_for_good(shared, (i, event), made(&self.input(i).trigger)?)?;
                self.completed(i)?;
                self.ended(i);
            }
            (Verdict::Run | Verdict::Void, Stage::Exhaust) => self.refusals.push(i),
            (Verdict::Run, Stage::Void) => {
                self.writes.mark(event, Mark::Voiding);
                self.is(i, Happened::Voiding, keys);
            }
            (Verdict::Void, _) => self.is(i, Happened::Voiding, keys),
            (Verdict::Run, Stage::Start) => {
                let moved = before.overtakes.map(|action| self.writes.overtake(self.shared, (i, event), action));
                let origin = moved.unwrap_or(event.origin);
                let joined = self.joined[i].clone();
                if event.op == Op::Action && mark(&before.action) == Some(Mark::Again) {
                    self.writes.starts_round(event, keys.action);
                } else {
                    // The row of a join says `waiting`, also when an earlier version had the join.
                    match before.row(event.op).map(|row| row.mark) {
                        Some(Mark::Waiting) => self.writes.starts(event, admission.effect_key),
                        None if admission.joins => self.writes.starts(event, admission.effect_key),
                        _ => {}
                    }
                }
                self.done[i] = Some(Done { happened: Happened::Started, keys, origin, joined, prepared: None });
                if step.half(event.op).is_some_and(|half| half.prepare.is_some()) {
                    self.to_prepare.push(i);
                }
            }
            (Verdict::Run, _) => self.calls.entry((event.step, event.op)).or_default().push(i),
        }
        Ok(())
    }
}

pub(crate) fn admission<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, event: &InFlight) -> Admission {
    let step = &shared.participant.steps[event.step];
    let (participant, op) = (shared.participant.name, event.op);
    let keeps = matches!(event.stage, Stage::Park | Stage::Block);
    let phase = match event.stage {
        Stage::Start => Phase::Start,
        Stage::Finish => Phase::Finish,
        // A step without an effect has recorded no start: its refusal is one transaction.
        Stage::Exhaust if step.action.effect.is_some() => Phase::Finish,
        // The attempt that failed has left no row, or that of its start.
        Stage::Whole | Stage::Exhaust | Stage::RecordFailure => Phase::Whole,
        _ => Phase::Recheck,
    };
    let effect_key = (phase == Phase::Start)
        .then(|| identity::effect_key(participant, event.saga_id(), event.name, op, event.round));
    Admission {
        cause: event.cause(),
        saga_id: event.saga_id(),
        step: event.name,
        op,
        phase,
        effect_key,
        joins: step.triggers(op).is_join(),
        rounds: op == Op::Action && step.spec.rounds.is_some(),
        from_parked: keeps || matches!(event.origin, TakenFrom::Parked { .. }),
    }
}

/// The idempotency keys of an event's effect: the stored ones, so that an upgrade does not change the key of a call in flight.
fn keys<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, event: &InFlight, before: &Before) -> Keys {
    let (saga, step, declared) = (event.saga_id(), event.name, &shared.participant.steps[event.step]);
    let calls = declared.action.effect.is_some();
    if !calls && declared.compensation.as_ref().is_none_or(|undo| undo.effect.is_none()) {
        return Keys::default();
    }
    let key = |row: &Option<Row>, op| match row {
        // Only waited for, and so not started.
        Some(Row { mark: Mark::Waiting, .. }) => identity::effect_key(shared.participant.name, saga, step, op, 0),
        Some(Row { effect_key: Some(key), .. }) => *key,
        // Started before keys were stored.
        Some(Row { effect_key: None, .. }) => identity::unstored_effect_key(saga, step, op),
        None => identity::effect_key(shared.participant.name, saga, step, op, 0),
    };
    let old_action = before.action.as_ref().is_some_and(|row| {
        let called = !matches!(row.mark, Mark::Waiting | Mark::Again);
        row.effect_key.is_none() && called
    });
    // The stored key is that of the round before.
    let new_round = event.op == Op::Action && mark(&before.action) == Some(Mark::Again);
    Keys {
        action: match calls && !new_round {
            true => key(&before.action, Op::Action),
            false => identity::effect_key(shared.participant.name, saga, step, Op::Action, event.round),
        },
        // Compensating a call of an earlier version uses that version's rule as well.
        compensation: if calls && old_action {
            identity::unstored_effect_key(saga, step, Op::Compensate)
        } else {
            key(&before.compensation, Op::Compensate)
        },
    }
}

fn mark(row: &Option<Row>) -> Option<Mark> {
    row.as_ref().map(|row| row.mark)
}

/// All parts of a join together: the event itself, and those that have arrived before.
fn joined<S: Store>(step: &ErasedStep<S>, event: &InFlight, arrivals: &[Arrival]) -> Result<Erased, StepError> {
    let (triggers, half) = (step.triggers(event.op), step.half(event.op));
    let join = half.and_then(|half| Some((half, half.join.as_ref()?)));
    let (half, join) = join.ok_or_else(|| StepError::permanent("the step is no join"))?;
    let own = triggers.part_of(&event.envelope.event_type);
    let part = |part: usize| {
        if own == Some(part) {
            return Ok(event.part.clone());
        }
        let arrival = arrivals.iter().find(|arrival| triggers.part_of(&arrival.cause.event_type) == Some(part));
        let Arrival { cause, version, data, .. } =
            arrival.ok_or_else(|| StepError::permanent("a part of the join has not arrived"))?;
        let read = (half.decode)(&cause.event_type, *version, data);
        let what = || format!("{} that has arrived cannot be read", cause.event_type);
        read.map(|(part, _)| part).map_err(|why| StepError::permanent(what()).caused_by(why))
    };
    join((0..triggers.parts().count()).map(part).collect::<Result<_, _>>()?)
}

fn skip_name(skip: Skip) -> &'static str {
    match skip {
        Skip::Duplicate => "duplicate",
        Skip::Alternative => "alternative",
        Skip::Repetition => "repetition",
        Skip::Late => "late",
    }
}

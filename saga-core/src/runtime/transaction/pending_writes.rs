//! What a transaction will write, collected while its events are decided.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::runtime::{
    Shared,
    in_flight::InFlight,
    telemetry::metrics::{HandledLabel, StepOnly, op_name},
    transaction::{
        counts::{Count, label},
        due::Due,
        publication::{Cause, Publication, outbox_rows},
    },
};
use crate::{
    barrier::{Arrival, Mark, Op},
    clock::Clock,
    dead_letter::{Poison, cap},
    envelope::open,
    handler::ChosenWaits,
    outcome::StepError,
    step::End,
    store::{Changes, Disarm, FailedCompensation, MarkChange, NewArrival, Progress, Store, Timer, TimerKind},
    transport::Producer,
};

/// What the transaction will write, collected while its events are decided.
pub(crate) struct PendingWrites {
    pub(crate) now: Timestamp,
    pub(crate) changes: Changes,
    pub(crate) counts: Vec<Count>,
    /// The shortest times after which something that is written here is due.
    pub(crate) due: Due<Duration>,
    /// How each event's handling ended, if it ended here.
    pub(crate) outcomes: Vec<Option<&'static str>>,
    /// Whether each event, or an arrival of its join, follows from a compensation that failed for good.
    pub(crate) partly_compensated: Vec<bool>,
}

/// What a barrier row is to say. Without a key and a round it keeps its own.
pub(crate) struct MarkTo {
    pub(crate) mark: Mark,
    pub(crate) effect_key: Option<Uuid>,
    pub(crate) round: Option<u32>,
}

impl From<Mark> for MarkTo {
    fn from(mark: Mark) -> Self {
        Self { mark, effect_key: None, round: None }
    }
}

impl PendingWrites {
    pub(crate) fn new(now: Timestamp, events: usize) -> Self {
        let (outcomes, partly_compensated) = (vec![None; events], vec![false; events]);
        let (changes, counts, due) = (Changes::default(), Vec::new(), Due::default());
        Self { now, changes, counts, due, outcomes, partly_compensated }
    }

    /// Adds what follows from a handler's outcome: its events, its mark, its timers. `found` says that its row was there before.
    pub(crate) fn ran<S: Store, P: Producer, C: Clock>(
        &mut self,
        shared: &Shared<S, P, C>,
        (at, event): (usize, &InFlight),
        end: End,
        (found, waits): (bool, &ChosenWaits),
    ) -> Result<(), StepError> {
        let refused = matches!(end, End::Events { refused: true, .. });
        // A row that this transaction made says `done` already.
        if refused || found {
            self.mark(event, if refused { Mark::Refused } else { Mark::Done });
        }
        if shared.has_deadlines {
            self.disarm(shared, event, &end);
            if event.op == Op::Action && !refused {
                self.arm(shared, event, waits, TimerKind::Step);
                if !shared.ends(&end) {
                    self.arm(shared, event, waits, TimerKind::Saga);
                }
            }
        }
        let outcome = match &end {
            End::Events { refused: true, .. } => "refused",
            End::Events { .. } => "success",
            End::Quiet | End::Again { .. } => "quiet",
        };
        self.outcomes[at] = Some(outcome);
        self.counts.push(Count::Handled(HandledLabel { step: event.name, op: op_name(event.op), outcome }));
        self.publish(shared, event, end, self.publication(at))
    }

    /// What an event that follows from this one is to say.
    pub(crate) fn publication(&self, at: usize) -> Publication {
        Publication { partly_compensated: self.partly_compensated[at], ..Publication::default() }
    }

    /// Lets the saga go on without a compensation that failed for good: publishes its event, marked as failed, and stores what
    /// failed.
    pub(crate) fn failed_for_good<S: Store, P: Producer, C: Clock>(
        &mut self,
        shared: &Shared<S, P, C>,
        (at, event): (usize, &InFlight),
        end: End,
    ) -> Result<(), StepError> {
        self.mark(event, Mark::Failed);
        if shared.has_deadlines {
            self.disarm(shared, event, &end);
        }
        self.changes.failed.push(FailedCompensation {
            saga_id: event.saga_id(),
            step: event.name,
            event_id: event.envelope.event_id.clone(),
            record: (*event.record).clone(),
            attempts: event.attempts,
            failed_at: event.failed_at.unwrap_or(self.now),
            reason: cap(&event.reason()).to_owned(),
        });
        self.outcomes[at] = Some("failed_for_good");
        self.counts.push(Count::FailedForGood(StepOnly { step: event.name }));
        self.publish(shared, event, end, Publication { failed: true, ..self.publication(at) })
    }

    /// Marks that the effect of another round is about to be called under this key.
    pub(crate) fn starts_round(&mut self, event: &InFlight, key: Uuid) {
        self.marked(
            event,
            event.op,
            MarkTo { effect_key: Some(key), round: Some(event.round), ..Mark::Started.into() },
        );
    }

    /// Disarms what no longer waits: everything at the end of the saga, the earlier deadlines at an action, and a step's
    /// deadline until the end at its compensation.
    fn disarm<S: Store, P: Producer, C: Clock>(&mut self, shared: &Shared<S, P, C>, event: &InFlight, end: &End) {
        let saga_id = event.saga_id();
        self.changes.disarm.extend(match event.op {
            _ if shared.ends(end) => Some(Disarm::all(saga_id)),
            Op::Action => Some(Disarm::waits(saga_id)),
            Op::Compensate => {
                let waits = shared.participant.steps[event.step].expires(TimerKind::Saga).is_some();
                waits.then(|| Disarm::one(saga_id, event.name, TimerKind::Saga))
            }
        });
        if event.op == Op::Action && shared.participant.steps[event.step].expires(TimerKind::Arrivals).is_some() {
            self.changes.disarm.push(Disarm::one(saga_id, event.name, TimerKind::Arrivals));
        }
    }

    /// Arms the step's deadline of this kind, where it declares one.
    fn arm<S: Store, P: Producer, C: Clock>(
        &mut self,
        shared: &Shared<S, P, C>,
        event: &InFlight,
        waits: &ChosenWaits,
        kind: TimerKind,
    ) {
        let Some(declared) = shared.participant.steps[event.step].spec.deadline_of(kind) else { return };
        let saga_id = event.saga_id();
        let after = waits.get(&(saga_id, kind)).copied().unwrap_or(declared.after);
        self.due = self.due.or(Due { deadline: Some(after), ..Due::default() });
        let trace = event.span.context.clone();
        self.changes.arm.push(Timer { saga_id, step: event.name, kind, after, trace });
    }

    /// Adds the step's events to the outbox, and the begin or end of its saga.
    pub(crate) fn publish<S: Store, P: Producer, C: Clock>(
        &mut self,
        shared: &Shared<S, P, C>,
        event: &InFlight,
        end: End,
        publication: Publication,
    ) -> Result<(), StepError> {
        if publication.null {
            self.counts.push(Count::Null(label(event)));
            if shared.has_deadlines && shared.ends(&end) {
                self.changes.disarm.push(Disarm::all(event.saga_id()));
            }
        }
        let progress = Progress { saga_id: event.saga_id(), at: self.now };
        if shared.ends(&end) {
            self.changes.ended.push(progress);
            if shared.has_joins {
                self.changes.close.push(event.saga_id());
            }
        } else if event.op == Op::Action && shared.participant.ends_sagas() {
            self.changes.begun.push(progress);
        }
        let joins = shared.participant.steps[event.step].triggers(event.op).is_join();
        let cause = Cause {
            source: &event.envelope.source,
            id: &event.envelope.event_id,
            joins,
            step: event.name,
            op: event.op,
            trace: &event.span.context,
        };
        self.changes.outbox.extend(outbox_rows(shared, event.saga_id(), &cause, end, publication, self.now)?);
        Ok(())
    }

    /// Sets the mark of the barrier row of the event's half of its step.
    pub(crate) fn mark(&mut self, event: &InFlight, mark: Mark) {
        self.marked(event, event.op, mark.into());
    }

    /// Closes the join that a compensation finds waiting: what arrives from now on is late.
    pub(crate) fn close(&mut self, compensation: &InFlight) {
        self.marked(compensation, Op::Action, Mark::Null.into());
        let (saga_id, step) = (compensation.saga_id(), compensation.name);
        self.changes.disarm.push(Disarm::one(saga_id, step, TimerKind::Arrivals));
    }

    /// The effect of a join is about to be called under this key.
    pub(crate) fn starts(&mut self, event: &InFlight, effect_key: Option<Uuid>) {
        self.marked(event, event.op, MarkTo { effect_key, ..Mark::Started.into() });
    }

    pub(crate) fn marked(&mut self, event: &InFlight, op: Op, MarkTo { mark, effect_key, round }: MarkTo) {
        let (saga_id, step) = (event.saga_id(), event.name);
        self.changes.marks.push(MarkChange { saga_id, step, op, mark, effect_key, round });
    }

    /// Stores an event whose join waits for others.
    pub(crate) fn waits<S: Store, P: Producer, C: Clock>(
        &mut self,
        shared: &Shared<S, P, C>,
        event: &InFlight,
        is_first: bool,
    ) -> Result<(), StepError> {
        self.counts.push(Count::Arrived(label(event)));
        if is_first && event.op == Op::Action {
            self.arm(shared, event, &ChosenWaits::new(), TimerKind::Arrivals);
        }
        if event.op == Op::Action && shared.participant.ends_sagas() {
            self.changes.begun.push(Progress { saga_id: event.saga_id(), at: self.now });
        }
        self.arrived(event, false)
    }

    /// Stores an event as an arrival of its join.
    pub(crate) fn arrived(&mut self, event: &InFlight, is_last: bool) -> Result<(), StepError> {
        let arrival = Arrival {
            cause: event.cause(),
            version: event.envelope.version,
            // Nothing reads it once the join has ended.
            data: if is_last { Vec::new() } else { data_of(event)? },
            partly_compensated: event.envelope.partly_compensated,
        };
        let (saga_id, step, op) = (event.saga_id(), event.name, event.op);
        self.changes.arrivals.push(NewArrival { saga_id, step, op, arrival, is_last });
        Ok(())
    }
}

/// The data of an event, as it is stored for its join.
fn data_of(event: &InFlight) -> Result<Vec<u8>, StepError> {
    let unreadable = |why: Poison| StepError::permanent(format!("the event cannot be read again: {}", why.message));
    let (_, data) = open(&event.record).and_then(|opened| opened.envelope()).map_err(unreadable)?;
    Ok(data.into_owned())
}

//! What a transaction will write, collected while its events are decided, and what is counted once it has committed.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Shared,
    batch::Trouble,
    metrics::{HandledLabel, StepLabel, StepOnly},
    work::{Origin, Todo, Work, derived_id},
};
use crate::{
    barrier::{Mark, Op, Skip},
    clock::Clock,
    dead_letter::cap,
    envelope::{Outgoing, seal},
    outcome::StepError,
    step::End,
    store::{Changes, InboxRow, MarkChange, OutboxRow, ParkChange, Progress, Store, Timer},
    trace::TraceContext,
    transport::Producer,
};

/// What the transaction will write, collected while its events are decided.
pub(super) struct Plan {
    pub(super) now: Timestamp,
    pub(super) changes: Changes,
    pub(super) counts: Vec<Count>,
    /// The shortest time after which something that is written here is due.
    pub(super) due: Option<Duration>,
    /// How each event's handling ended, if it ended here.
    pub(super) outcomes: Vec<Option<&'static str>>,
}

/// What to count once the transaction has committed.
pub(super) enum Count {
    Skipped(usize, Skip),
    Handled(HandledLabel),
    Null(StepLabel),
}

impl Count {
    pub(super) fn add<S: Store, P: Producer, C: Clock>(self, shared: &Shared<S, P, C>, works: &[Work]) {
        match self {
            Self::Skipped(i, skip) => {
                let work = &works[i];
                let label = label(work);
                if skip == Skip::Duplicate {
                    // Perhaps of one that another process committed and had no time to publish.
                    shared.outbox.look_for(work.saga_id());
                }
                match skip {
                    Skip::Duplicate => shared.metrics.duplicates.get_or_create(&label).inc(),
                    Skip::Late => shared.metrics.late.get_or_create(&label).inc(),
                };
                tracing::debug!(saga_id = %work.saga_id(), step = label.step, op = label.op, ?skip, "skipped");
            }
            Self::Handled(label) => {
                if label.op == op_name(Op::Compensate) {
                    shared.metrics.compensations.get_or_create(&StepOnly { step: label.step }).inc();
                }
                shared.metrics.handled.get_or_create(&label).inc();
            }
            Self::Null(label) => {
                shared.metrics.null_compensations.get_or_create(&label).inc();
            }
        }
    }
}

pub(super) fn label(work: &Work) -> StepLabel {
    StepLabel { step: work.name, op: op_name(work.op) }
}

pub(super) fn op_name(op: Op) -> &'static str {
    match op {
        Op::Action => "action",
        Op::Compensate => "compensate",
    }
}

impl Plan {
    /// A handler has run: its event, its mark, its timers.
    pub(super) fn ran<S: Store, P: Producer, C: Clock>(
        &mut self,
        shared: &Shared<S, P, C>,
        at: usize,
        work: &Work,
        end: End,
    ) -> Result<(), Trouble> {
        let refused = matches!(end, End::Event { refused: true, .. });
        let finishes = matches!(work.todo, Todo::Finish | Todo::Exhaust(_));
        if refused || finishes {
            self.finish_mark(work, if refused { Mark::Refused } else { Mark::Done });
        }
        let step = &shared.participant.steps[work.step];
        if work.op == Op::Action && shared.has_deadlines {
            // Progress of this participant ends its earlier wait.
            self.changes.disarm.push(work.saga_id());
            if let Some(deadline) = &step.spec.deadline
                && !refused
            {
                self.due_after(deadline.after);
                let (saga_id, trace) = (work.saga_id(), work.place.context.clone());
                self.changes.arm.push(Timer { saga_id, step: step.spec.name, after: deadline.after, trace });
            }
        }
        let outcome = match &end {
            End::Event { refused: true, .. } => "refused",
            End::Event { .. } => "success",
            End::Quiet => "quiet",
        };
        self.outcomes[at] = Some(outcome);
        self.counts.push(Count::Handled(HandledLabel { step: step.spec.name, op: op_name(work.op), outcome }));
        self.end(shared, work, end, false)?;
        self.settled(work, false);
        Ok(())
    }

    /// Writes the step's event to the outbox, and what it means for the progress of its saga.
    pub(super) fn end<S: Store, P: Producer, C: Clock>(
        &mut self,
        shared: &Shared<S, P, C>,
        work: &Work,
        end: End,
        null: bool,
    ) -> Result<(), Trouble> {
        if null {
            self.counts.push(Count::Null(label(work)));
        }
        let progress = Progress { saga_id: work.saga_id(), at: self.now };
        if shared.ends(&end) {
            self.changes.ended.push(progress);
        } else if work.op == Op::Action && shared.participant.ends_sagas() {
            self.changes.begun.push(progress);
        }
        let trace = &work.place.context;
        let cause = Cause { id: &work.envelope.event_id, step: work.name, op: work.op, trace };
        let row = outbox_row(shared, work.saga_id(), &cause, end, null, self.now);
        self.changes.outbox.extend(row.map_err(Trouble::Handler)?);
        Ok(())
    }

    pub(super) fn finish_mark(&mut self, work: &Work, mark: Mark) {
        self.changes.marks.push(MarkChange { saga_id: work.saga_id(), step: work.name, op: work.op, mark });
    }

    /// The event is done with: an event whose start would have recorded it later is recorded now, a parked head goes.
    pub(super) fn settled(&mut self, work: &Work, started: bool) {
        if started {
            let (event_id, saga_id) = (work.envelope.event_id.clone(), work.saga_id());
            self.changes.inbox.push(InboxRow { event_id, saga_id });
        }
        if let Origin::Parked { seq } = work.origin {
            self.changes.park.push(ParkChange::Remove { seq });
            self.due_after(Duration::ZERO);
        }
    }

    fn due_after(&mut self, pause: Duration) {
        self.due = Some(self.due.map_or(pause, |shorter| shorter.min(pause)));
    }

    /// The saga is parked: the event waits behind its head.
    pub(super) fn queue(&mut self, work: &Work) {
        self.changes.park.push(ParkChange::Append {
            saga_id: work.saga_id(),
            event_id: work.envelope.event_id.clone(),
            record: (*work.record).clone(),
            attempts: 0,
            pause: Duration::ZERO,
            failed_at: None,
            reason: "waits behind an earlier event of its saga".to_owned(),
            held: false,
        });
    }

    /// Moves an event that failed to the table of parked ones. Says how, when it was one.
    pub(super) fn keep(&mut self, work: &Work) -> Option<&'static str> {
        let change = match (&work.todo, work.origin) {
            (Todo::Park { attempts, pause, failed_at, reason }, origin) => {
                let (attempts, pause, failed_at, reason) = (*attempts, *pause, *failed_at, cap(reason).to_owned());
                self.due_after(pause);
                match origin {
                    Origin::Parked { seq } => ParkChange::Retry { seq, attempts, pause, failed_at, reason },
                    Origin::Partition { .. } => ParkChange::Append {
                        saga_id: work.saga_id(),
                        event_id: work.envelope.event_id.clone(),
                        record: (*work.record).clone(),
                        attempts,
                        pause,
                        failed_at: Some(failed_at),
                        reason,
                        held: false,
                    },
                }
            }
            (Todo::Hold { reason }, Origin::Parked { seq }) => ParkChange::Hold { seq, reason: cap(reason).to_owned() },
            (Todo::Hold { reason }, Origin::Partition { .. }) => ParkChange::Append {
                saga_id: work.saga_id(),
                event_id: work.envelope.event_id.clone(),
                record: (*work.record).clone(),
                attempts: work.attempts,
                pause: Duration::ZERO,
                failed_at: Some(work.failed_at.unwrap_or(self.now)),
                reason: cap(reason).to_owned(),
                held: true,
            },
            _ => return None,
        };
        self.changes.park.push(change);
        Some(if matches!(work.todo, Todo::Hold { .. }) { "held" } else { "parked" })
    }
}

/// What an event was caused by.
pub(super) struct Cause<'a> {
    pub(super) id: &'a str,
    pub(super) step: &'static str,
    pub(super) op: Op,
    pub(super) trace: &'a TraceContext,
}

/// The outbox row of what a step, or a deadline, ended in; none when it ended quietly.
pub(super) fn outbox_row<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    saga_id: crate::SagaId,
    cause: &Cause<'_>,
    end: End,
    null_compensation: bool,
    now: Timestamp,
) -> Result<Option<OutboxRow>, StepError> {
    let End::Event { event_type, data, saga_id: of, .. } = end else { return Ok(None) };
    if of != saga_id {
        let step = cause.step;
        return Err(StepError::permanent(format!("{step} published {} of another saga", event_type.name)));
    }
    let id = derived_id(cause.id, cause.step, cause.op);
    let place = shared.spans.place(cause.trace, saga_id);
    let outgoing = Outgoing {
        id,
        source: shared.participant.name,
        saga_id,
        causation_id: Some(cause.id),
        time: now,
        trace: shared.spans.outgoing(&place),
        null_compensation,
    };
    let record = seal(event_type, data, &outgoing);
    let (event_type, created_at) = (event_type.name.to_owned(), now);
    Ok(Some(OutboxRow { id, saga_id, event_type, created_at, record, span: place.ids, link: None }))
}

//! What a transaction will write, collected while its events are decided, and what is counted once it has committed.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Shared,
    metrics::{HandledLabel, StepLabel, StepOnly},
    stage::Stage,
    work::{Origin, Work},
};
use crate::{
    barrier::{Mark, Op, Skip},
    clock::Clock,
    dead_letter::cap,
    envelope::{Outgoing, seal},
    identity,
    outcome::StepError,
    step::End,
    store::{Changes, MarkChange, OutboxRow, ParkChange, ParkedAt, Parking, Progress, Store, Timer},
    trace::TraceContext,
    transport::Producer,
};

/// What the transaction will write, collected while its events are decided.
pub(super) struct Plan {
    pub(super) now: Timestamp,
    pub(super) changes: Changes,
    pub(super) counts: Vec<Count>,
    /// The shortest times after which something that is written here is due.
    pub(super) due: Due<Duration>,
    /// How each event's handling ended, if it ended here.
    pub(super) outcomes: Vec<Option<&'static str>>,
}

/// When the next parked event and the next deadline are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due<T> {
    pub(super) parked: Option<T>,
    pub(super) deadline: Option<T>,
}

impl<T> Default for Due<T> {
    fn default() -> Self {
        Self { parked: None, deadline: None }
    }
}

impl<T: Ord> Due<T> {
    /// The earlier of each.
    pub(super) fn or(self, other: Self) -> Self {
        let earlier = |a: Option<T>, b: Option<T>| a.into_iter().chain(b).min();
        Self { parked: earlier(self.parked, other.parked), deadline: earlier(self.deadline, other.deadline) }
    }

    pub(super) fn map<U>(self, to: impl Fn(T) -> U) -> Due<U> {
        Due { parked: self.parked.map(&to), deadline: self.deadline.map(&to) }
    }
}

/// What to count once the transaction has committed.
pub(super) enum Count {
    Skipped(usize, Skip),
    /// A parked action whose place its compensation took.
    Overtaken(usize),
    Handled(HandledLabel),
    Null(StepLabel),
}

impl Count {
    pub(super) fn add<S: Store, P: Producer, C: Clock>(self, shared: &Shared<S, P, C>, works: &[Work]) {
        let metrics = &shared.metrics;
        match self {
            Self::Skipped(i, skip) => {
                if skip == Skip::Duplicate {
                    // Perhaps of one that another process committed and had no time to publish.
                    shared.outbox.look_for(works[i].saga_id());
                }
                let label = label(&works[i]);
                match skip {
                    Skip::Duplicate | Skip::Alternative => metrics.duplicates.get_or_create(&label).inc(),
                    Skip::Repetition => metrics.repetitions.get_or_create(&label).inc(),
                    Skip::Late => metrics.late.get_or_create(&label).inc(),
                };
                tracing::debug!(saga_id = %works[i].saga_id(), step = label.step, op = label.op, ?skip, "skipped");
            }
            Self::Overtaken(i) => {
                let label = StepLabel { step: works[i].name, op: op_name(Op::Action) };
                metrics.late.get_or_create(&label).inc();
                works[i].lines().in_scope(|| tracing::info!("a parked action was overtaken by its compensation"));
            }
            Self::Handled(label) => {
                if label.op == op_name(Op::Compensate) {
                    metrics.compensations.get_or_create(&StepOnly { step: label.step }).inc();
                }
                metrics.handled.get_or_create(&label).inc();
            }
            Self::Null(label) => {
                metrics.null_compensations.get_or_create(&label).inc();
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
    pub(super) fn new(now: Timestamp, works: usize) -> Self {
        let outcomes = vec![None; works];
        Self { now, changes: Changes::default(), counts: Vec::new(), due: Due::default(), outcomes }
    }

    /// A handler has run: its event, its mark, its timers. `found` says that its row was there before.
    pub(super) fn ran<S: Store, P: Producer, C: Clock>(
        &mut self,
        shared: &Shared<S, P, C>,
        (at, work): (usize, &Work),
        end: End,
        found: bool,
    ) -> Result<(), StepError> {
        let refused = matches!(end, End::Event { refused: true, .. });
        // A row that this transaction has made says `done` already.
        if refused || found {
            self.mark(work, if refused { Mark::Refused } else { Mark::Done });
        }
        if work.op == Op::Action && shared.has_deadlines {
            self.time(shared, work, refused);
        }
        let outcome = match &end {
            End::Event { refused: true, .. } => "refused",
            End::Event { .. } => "success",
            End::Quiet => "quiet",
        };
        self.outcomes[at] = Some(outcome);
        self.counts.push(Count::Handled(HandledLabel { step: work.name, op: op_name(work.op), outcome }));
        self.publish(shared, work, end, false)
    }

    /// Progress of this participant ends its earlier wait, and may begin another.
    fn time<S: Store, P: Producer, C: Clock>(&mut self, shared: &Shared<S, P, C>, work: &Work, refused: bool) {
        self.changes.disarm.push(work.saga_id());
        let deadline = shared.participant.steps[work.step].spec.deadline.as_ref().filter(|_| !refused);
        if let Some(deadline) = deadline {
            self.due = self.due.or(Due { deadline: Some(deadline.after), ..Due::default() });
            let (saga_id, trace) = (work.saga_id(), work.place.context.clone());
            self.changes.arm.push(Timer { saga_id, step: work.name, after: deadline.after, trace });
        }
    }

    /// Writes the step's event to the outbox, and what it means for the progress of its saga.
    pub(super) fn publish<S: Store, P: Producer, C: Clock>(
        &mut self,
        shared: &Shared<S, P, C>,
        work: &Work,
        end: End,
        null: bool,
    ) -> Result<(), StepError> {
        if null {
            self.counts.push(Count::Null(label(work)));
        }
        let progress = Progress { saga_id: work.saga_id(), at: self.now };
        if shared.ends(&end) {
            self.changes.ended.push(progress);
        } else if work.op == Op::Action && shared.participant.ends_sagas() {
            self.changes.begun.push(progress);
        }
        let cause = Cause {
            source: &work.envelope.source,
            id: &work.envelope.event_id,
            step: work.name,
            op: work.op,
            trace: &work.place.context,
        };
        self.changes.outbox.extend(outbox_row(shared, work.saga_id(), &cause, end, null, self.now)?);
        Ok(())
    }

    /// What the barrier row of the event's half of its step says from now on.
    pub(super) fn mark(&mut self, work: &Work, mark: Mark) {
        self.changes.marks.push(MarkChange { saga_id: work.saga_id(), step: work.name, op: work.op, mark });
    }

    /// The event is done with: when it was parked, its place is free, and so is that of an action that it has overtaken.
    pub(super) fn settled(&mut self, at: usize, work: &Work, overtakes: Option<i64>) {
        if let Some(seq) = overtakes {
            self.remove(ParkedAt { saga_id: work.saga_id(), seq, op: Op::Action });
            self.counts.push(Count::Overtaken(at));
        }
        if let Some(place) = work.parked_at() {
            self.remove(place);
        }
    }

    fn remove(&mut self, at: ParkedAt) {
        self.changes.park.push(ParkChange::Remove { at });
        self.wake(Duration::ZERO);
    }

    /// The saga is parked: the event waits behind its head.
    pub(super) fn queue(&mut self, work: &Work) {
        let reason = "waits behind an earlier event of its saga".to_owned();
        let parking = Parking { pause: Duration::ZERO, failed_at: None, attempts: 0, ..parking(work, reason, false) };
        self.changes.park.push(ParkChange::Append(parking));
    }

    /// A compensation whose effect is about to be called takes the place of its parked action, so that it does not queue
    /// behind what it undoes when it fails. Returns its place from now on.
    pub(super) fn overtake<S: Store, P: Producer, C: Clock>(
        &mut self,
        shared: &Shared<S, P, C>,
        (at, work): (usize, &Work),
        action: i64,
    ) -> Origin {
        self.counts.push(Count::Overtaken(at));
        match work.origin {
            // It stands before the action already.
            Origin::Parked { seq } if seq < action => {
                self.remove(ParkedAt { saga_id: work.saga_id(), seq: action, op: Op::Action });
                work.origin
            }
            _ => {
                let reason = format!("{} is being called", work.half);
                let by = Parking { pause: shared.options.lease, ..parking(work, reason, false) };
                self.changes.park.push(ParkChange::Overtake { seq: action, by });
                Origin::Parked { seq: action }
            }
        }
    }

    /// Moves an event that failed to the table of parked ones.
    pub(super) fn keep(&mut self, at: usize, work: &Work, overtakes: Option<i64>) {
        let held = work.stage == Stage::Hold;
        let (attempts, pause, failed_at) = (work.attempts, work.pause, work.failed_at.unwrap_or(self.now));
        let reason = cap(&work.reason()).to_owned();
        if !held {
            self.wake(pause);
        }
        self.outcomes[at] = Some(if held { "held" } else { "parked" });
        self.changes.park.push(match (work.parked_at(), overtakes) {
            // A parked action of its step stays where it is, until the compensation ends.
            (Some(place), _) if held => ParkChange::Hold { at: place, reason },
            (Some(at), _) => ParkChange::Retry { at, attempts, pause, failed_at, reason },
            (None, Some(seq)) => {
                self.counts.push(Count::Overtaken(at));
                ParkChange::Overtake { seq, by: parking(work, reason, held) }
            }
            (None, None) => ParkChange::Append(parking(work, reason, held)),
        });
    }

    fn wake(&mut self, pause: Duration) {
        self.due = self.due.or(Due { parked: Some(pause), ..Due::default() });
    }
}

fn parking(work: &Work, reason: String, held: bool) -> Parking {
    Parking {
        saga_id: work.saga_id(),
        cause: work.cause_id,
        event_id: work.envelope.event_id.clone(),
        step: work.name,
        op: work.op,
        record: (*work.record).clone(),
        attempts: work.attempts,
        pause: work.pause,
        failed_at: work.failed_at,
        reason,
        held,
    }
}

/// What an event was caused by.
pub(super) struct Cause<'a> {
    pub(super) source: &'a str,
    pub(super) id: &'a str,
    pub(super) step: &'static str,
    pub(super) op: Op,
    pub(super) trace: &'a TraceContext,
}

/// The outbox row of what a step, or a deadline, ended in; none when it ended quietly.
pub(super) fn outbox_row<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    saga: crate::SagaId,
    cause: &Cause<'_>,
    end: End,
    null_compensation: bool,
    now: Timestamp,
) -> Result<Option<OutboxRow>, StepError> {
    let End::Event { event_type, data, saga_id: of, .. } = end else { return Ok(None) };
    let &Cause { source, id, step, op, trace } = cause;
    if of != saga {
        return Err(StepError::permanent(format!("{step} published {} of another saga", event_type.name)));
    }
    let participant = shared.participant.name;
    let origin = identity::Origin { participant, saga, cause: (source, id), step, op };
    let (causation_id, id) = (Some(id), identity::published(origin, 0));
    let place = shared.spans.place(trace, saga);
    let outgoing = Outgoing {
        id,
        source: participant,
        saga_id: saga,
        causation_id,
        time: now,
        trace: shared.spans.outgoing(&place),
        null_compensation,
    };
    let record = shared.outbox.namespace().place(seal(event_type, data, &outgoing));
    let (event_type, created_at) = (event_type.name.to_owned(), now);
    Ok(Some(OutboxRow { id, saga_id: saga, event_type, created_at, record, span: place.ids, link: None }))
}

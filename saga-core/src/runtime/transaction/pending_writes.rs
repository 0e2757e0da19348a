//! What a transaction will write, collected while its events are decided, and what is counted once it has committed.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::runtime::{
    Shared,
    in_flight::{InFlight, TakenFrom},
    stage::Stage,
    telemetry::metrics::{HandledLabel, StepLabel, StepOnly, op_name},
    transaction::due::Due,
};
use crate::{
    barrier::{Arrival, Mark, Op, Skip},
    clock::Clock,
    dead_letter::{Poison, cap},
    envelope::{Outgoing, mark_partly_compensated, open, seal},
    handler::{ChosenWaits, Emitted},
    identity,
    outcome::StepError,
    step::End,
    store::{
        Changes, Disarm, FailedCompensation, MarkChange, NewArrival, OutboxRow, ParkChange, ParkedAt, Parking,
        Progress, RoundChange, Store, Timer, TimerKind,
    },
    trace::TraceContext,
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

/// What an event is to say about the compensations of its saga.
#[derive(Clone, Copy, Default)]
pub(crate) struct Publication {
    /// There was nothing to compensate.
    pub(crate) null: bool,
    /// It is the event of a compensation that failed for good.
    pub(crate) failed: bool,
    /// It follows from such a compensation.
    pub(crate) partly_compensated: bool,
}

/// What to count once the transaction has committed.
pub(crate) enum Count {
    Skipped(usize, Skip),
    /// A parked action whose place its compensation took.
    Overtaken(usize),
    Handled(HandledLabel),
    /// A part of a join that is not complete.
    Arrived(StepLabel),
    Null(StepLabel),
    /// A step asks for another round.
    Round(StepOnly),
    /// A compensation that failed for good, and without which its saga goes on.
    FailedForGood(StepOnly),
}

impl Count {
    pub(crate) fn add<S: Store, P: Producer, C: Clock>(self, shared: &Shared<S, P, C>, events: &[InFlight]) {
        let metrics = &shared.metrics;
        match self {
            Self::Skipped(i, skip) => {
                if skip == Skip::Duplicate {
                    // Another process may have committed its event without publishing it.
                    shared.outbox.look_for(events[i].saga_id());
                }
                let label = label(&events[i]);
                match skip {
                    Skip::Duplicate => metrics.duplicates.get_or_create(&label).inc(),
                    Skip::Alternative => metrics.alternatives.get_or_create(&label).inc(),
                    Skip::Repetition => metrics.repetitions.get_or_create(&label).inc(),
                    Skip::Late => metrics.late.get_or_create(&label).inc(),
                };
                let event_type = &events[i].envelope.event_type;
                events[i].lines().in_scope(|| match skip {
                    Skip::Alternative => {
                        tracing::info!(event_type, "skipped: another of the events that start the step came before")
                    }
                    _ => tracing::debug!(event_type, ?skip, "skipped"),
                });
            }
            Self::Overtaken(i) => {
                let label = StepLabel { step: events[i].name, op: op_name(Op::Action) };
                metrics.late.get_or_create(&label).inc();
                events[i].lines().in_scope(|| tracing::info!("a parked action was overtaken by its compensation"));
            }
            Self::Handled(label) => {
                if label.op == op_name(Op::Compensate) {
                    metrics.compensations.get_or_create(&StepOnly { step: label.step }).inc();
                }
                metrics.handled.get_or_create(&label).inc();
            }
            Self::Arrived(StepLabel { step, op }) => {
                metrics.handled.get_or_create(&HandledLabel { step, op, outcome: "arrived" }).inc();
            }
            Self::Round(step) => {
                metrics.rounds.get_or_create(&step).inc();
            }
            Self::Null(label) => {
                metrics.null_compensations.get_or_create(&label).inc();
            }
            Self::FailedForGood(label) => {
                metrics.compensations_failed_for_good.get_or_create(&label).inc();
            }
        }
    }
}

pub(crate) fn label(event: &InFlight) -> StepLabel {
    StepLabel { step: event.name, op: op_name(event.op) }
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

    /// Adds a checkpoint: the event stands aside, and is due again for this round. Deadlines stay as they are, since the step
    /// has not succeeded yet.
    pub(crate) fn again<S: Store, P: Producer, C: Clock>(
        &mut self,
        shared: &Shared<S, P, C>,
        (at, event): (usize, &InFlight),
        round: u32,
        pause: Duration,
    ) {
        let (saga_id, step) = (event.saga_id(), event.name);
        self.changes.rounds.push(RoundChange { saga_id, step, mark: Mark::Again, round, effect_key: None });
        self.changes.park.push(match event.parked_at() {
            Some(at) => ParkChange::Again { at, round, pause },
            None => {
                let reason = "waits for its next round".to_owned();
                let waits = parking(event, reason, false);
                ParkChange::Append(Parking { aside: true, round, attempts: 0, pause, failed_at: None, ..waits })
            }
        });
        self.wake(pause);
        if shared.participant.ends_sagas() {
            self.changes.begun.push(Progress { saga_id, at: self.now });
        }
        self.outcomes[at] = Some("again");
        self.counts.push(Count::Handled(HandledLabel { step, op: op_name(event.op), outcome: "again" }));
        self.counts.push(Count::Round(StepOnly { step }));
    }

    /// Marks that the effect of another round is about to be called under this key.
    pub(crate) fn starts_round(&mut self, event: &InFlight, key: Uuid) {
        let (saga_id, step, round) = (event.saga_id(), event.name, event.round);
        self.changes.rounds.push(RoundChange { saga_id, step, mark: Mark::Started, round, effect_key: Some(key) });
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
        self.marked(event, event.op, mark, None);
    }

    /// Closes the join that a compensation finds waiting: what arrives from now on is late.
    pub(crate) fn close(&mut self, compensation: &InFlight) {
        self.marked(compensation, Op::Action, Mark::Null, None);
        let (saga_id, step) = (compensation.saga_id(), compensation.name);
        self.changes.disarm.push(Disarm::one(saga_id, step, TimerKind::Arrivals));
    }

    /// The effect of a join is about to be called under this key.
    pub(crate) fn starts(&mut self, event: &InFlight, effect_key: Option<Uuid>) {
        self.marked(event, event.op, Mark::Started, effect_key);
    }

    fn marked(&mut self, event: &InFlight, op: Op, mark: Mark, effect_key: Option<Uuid>) {
        let (saga_id, step) = (event.saga_id(), event.name);
        self.changes.marks.push(MarkChange { saga_id, step, op, mark, effect_key });
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
        let unreadable = |why: Poison| StepError::permanent(format!("the event cannot be read again: {}", why.message));
        let opened = open(&event.record).map_err(unreadable)?;
        let (_, data) = opened.envelope().map_err(unreadable)?;
        let arrival = Arrival {
            cause: event.cause(),
            version: event.envelope.version,
            data: data.into_owned(),
            partly_compensated: event.envelope.partly_compensated,
        };
        let (saga_id, step, op) = (event.saga_id(), event.name, event.op);
        self.changes.arrivals.push(NewArrival { saga_id, step, op, arrival, is_last });
        Ok(())
    }

    /// Removes a settled event from the parked ones, and an action that it has overtaken.
    pub(crate) fn settled(&mut self, at: usize, event: &InFlight, overtakes: Option<i64>) {
        if let Some(seq) = overtakes {
            self.remove(ParkedAt { saga_id: event.saga_id(), seq, op: Op::Action, round: None });
            self.counts.push(Count::Overtaken(at));
        }
        if let Some(place) = event.parked_at() {
            self.remove(place);
        }
    }

    fn remove(&mut self, at: ParkedAt) {
        self.changes.park.push(ParkChange::Remove { at });
        self.wake(Duration::ZERO);
    }

    /// Appends an event of a parked saga behind its head.
    pub(crate) fn queue(&mut self, event: &InFlight) {
        let reason = "waits behind an earlier event of its saga".to_owned();
        let parking = Parking { pause: Duration::ZERO, failed_at: None, attempts: 0, ..parking(event, reason, false) };
        self.changes.park.push(ParkChange::Append(parking));
    }

    /// Puts a compensation whose effect is about to be called in the place of its parked action. If it fails, it then does not
    /// wait behind that action. Returns its new place.
    pub(crate) fn overtake<S: Store, P: Producer, C: Clock>(
        &mut self,
        shared: &Shared<S, P, C>,
        (at, event): (usize, &InFlight),
        action: i64,
    ) -> TakenFrom {
        self.counts.push(Count::Overtaken(at));
        match event.origin {
            // It is before the action already.
            TakenFrom::Parked { seq } if seq < action => {
                self.remove(ParkedAt { saga_id: event.saga_id(), seq: action, op: Op::Action, round: None });
                event.origin
            }
            _ => {
                let reason = format!("{} is being called", event.half);
                let by = Parking { pause: shared.options.lease, ..parking(event, reason, false) };
                self.changes.park.push(ParkChange::Overtake { seq: action, by });
                TakenFrom::Parked { seq: action }
            }
        }
    }

    /// Parks an event that failed, or keeps one that is dead-lettered.
    pub(crate) fn keep(&mut self, at: usize, event: &InFlight, overtakes: Option<i64>) {
        let blocked = event.stage == Stage::Block;
        let (attempts, pause, failed_at) = (event.attempts, event.pause, event.failed_at.unwrap_or(self.now));
        let reason = cap(&event.reason()).to_owned();
        if !blocked {
            self.wake(pause);
        }
        self.outcomes[at] = Some(if blocked { "blocked" } else { "parked" });
        self.changes.park.push(match (event.parked_at(), overtakes) {
            // A parked action of its step stays until the compensation ends.
            (Some(place), _) if blocked => ParkChange::Block { at: place, reason },
            (Some(at), _) => ParkChange::Retry { at, attempts, pause, failed_at, reason },
            (None, Some(seq)) => {
                self.counts.push(Count::Overtaken(at));
                ParkChange::Overtake { seq, by: parking(event, reason, blocked) }
            }
            (None, None) => ParkChange::Append(parking(event, reason, blocked)),
        });
    }

    fn wake(&mut self, pause: Duration) {
        self.due = self.due.or(Due { parked: Some(pause), ..Due::default() });
    }
}

fn parking(event: &InFlight, reason: String, blocked: bool) -> Parking {
    Parking {
        saga_id: event.saga_id(),
        cause: event.cause_id,
        event_id: event.envelope.event_id.clone(),
        step: event.name,
        op: event.op,
        record: (*event.record).clone(),
        attempts: event.attempts,
        pause: event.pause,
        failed_at: event.failed_at,
        reason,
        blocked,
        aside: false,
        round: event.round,
    }
}

/// What caused an event.
pub(crate) struct Cause<'a> {
    pub(crate) source: &'a str,
    pub(crate) id: &'a str,
    /// It is the last of several, and might have been any of them.
    pub(crate) joins: bool,
    pub(crate) step: &'static str,
    pub(crate) op: Op,
    pub(crate) trace: &'a TraceContext,
}

/// The outbox rows of the events that a step or a deadline ended in, in their order; none when it ended quietly.
pub(crate) fn outbox_rows<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    saga: crate::SagaId,
    cause: &Cause<'_>,
    end: End,
    publication: Publication,
    now: Timestamp,
) -> Result<Vec<OutboxRow>, StepError> {
    let End::Events { events, .. } = end else { return Ok(Vec::new()) };
    let &Cause { source, id: caused_by, joins, step, op, trace } = cause;
    let participant = shared.participant.name;
    // Ids do not depend on which part of a join came last.
    let cause = if joins { identity::JOIN } else { (source, caused_by) };
    let origin = identity::Origin { participant, saga, cause, step, op };
    let mut rows = Vec::with_capacity(events.len());
    for (index, Emitted { event_type, data, saga_id: of }) in (0..).zip(events) {
        if of != saga {
            return Err(StepError::permanent(format!("{step} published {} of another saga", event_type.name)));
        }
        let id = identity::published(origin, index);
        let span = shared.spans.new_span(trace, saga);
        let outgoing = Outgoing {
            id,
            source: participant,
            saga_id: saga,
            causation_id: Some(caused_by),
            time: now,
            trace: shared.spans.outgoing(&span),
            null_compensation: publication.null,
        };
        let mut record = shared.outbox.namespace().place(seal(event_type, data, &outgoing));
        if publication.failed || publication.partly_compensated {
            mark_partly_compensated(&mut record, publication.failed);
        }
        let (event_type, created_at) = (event_type.name.to_owned(), now);
        rows.push(OutboxRow { id, saga_id: saga, event_type, created_at, record, span: span.ids, link: None });
    }
    Ok(rows)
}

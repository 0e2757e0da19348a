//! What a transaction writes about parked events: it appends, keeps, replaces and removes them, and lets a step stand aside.

use std::time::Duration;

use crate::runtime::{
    Shared,
    in_flight::{InFlight, TakenFrom},
    stage::Stage,
    telemetry::metrics::{HandledLabel, StepOnly, op_name},
    transaction::{
        counts::Count,
        due::Due,
        pending_writes::{MarkTo, PendingWrites},
    },
};
use crate::{
    barrier::{Mark, Op},
    clock::Clock,
    dead_letter::cap,
    store::{ParkChange, ParkedAt, Parking, Progress, Store},
    transport::Producer,
};

impl PendingWrites {
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
        self.marked(event, event.op, MarkTo { round: Some(round), ..Mark::Again.into() });
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

//! The tables of an in-memory store, and what a transaction does to them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    barrier::{Arrival, Before, Mark, Op, Row},
    clock::after,
    event::SagaId,
    record::Record,
    store::{
        Admission, Changes, Committed, DueTimer, FailedCompensation, NewArrival, OutboxRow, ParkChange, ParkedAt,
        ParkedEvent, Parking, Phase, Progress, Timer, TimerKind,
    },
};

#[derive(Clone, Default)]
pub(super) struct Tables {
    pub(super) barrier: BTreeMap<(SagaId, String, Op), Row>,
    pub(super) arrivals: BTreeMap<(SagaId, String, Op), Vec<Arrival>>,
    pub(super) failed: BTreeMap<(SagaId, &'static str), FailedCompensation>,
    pub(super) outbox: BTreeMap<i64, OutboxRow>,
    pub(super) last_written: i64,
    pub(super) parked: BTreeMap<i64, Parked>,
    pub(super) last_seq: i64,
    pub(super) timers: BTreeMap<(SagaId, String, TimerKind), DueTimer>,
    pub(super) steps: BTreeMap<String, Vec<String>>,
    pub(super) progress: BTreeMap<SagaId, (Option<Timestamp>, Option<Timestamp>)>,
    pub(super) data: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone)]
pub(super) struct Parked {
    pub(super) saga_id: SagaId,
    pub(super) cause: Uuid,
    pub(super) step: &'static str,
    pub(super) op: Op,
    pub(super) record: Record,
    pub(super) attempts: u32,
    /// None for an event that waits behind the head, and for a blocked one.
    pub(super) due: Option<Timestamp>,
    pub(super) failed_at: Option<Timestamp>,
    pub(super) blocked: bool,
    pub(super) aside: bool,
    pub(super) round: u32,
}

impl Parked {
    pub(super) fn event(&self, seq: i64) -> ParkedEvent {
        let Self { saga_id, attempts, failed_at, round, record, .. } = self.clone();
        ParkedEvent { seq, saga_id, attempts, failed_at, round, record }
    }

    pub(super) fn rests(&self, resting: &[&str]) -> bool {
        resting.contains(&self.step) && (self.op == Op::Action || self.failed_at.is_some())
    }

    pub(super) fn new(parking: Parking, waits: bool, now: Timestamp) -> Self {
        let Parking { saga_id, cause, step, op, record, attempts, pause, failed_at, blocked, aside, round, .. } =
            parking;
        let due = (!blocked && (aside || !waits)).then(|| after(now, pause));
        Self { saga_id, cause, step, op, record, attempts, due, failed_at, blocked, aside, round }
    }
}

impl Tables {
    pub(super) fn admit(&mut self, admission: &Admission) -> Before {
        let key = |op| (admission.saga_id, admission.step.to_owned(), op);
        let own = |p: &Parked| p.saga_id == admission.saga_id && p.step == admission.step && p.op == Op::Action;
        let action = self.parked.iter().find(|(_, parked)| own(parked)).map(|(seq, _)| *seq);
        let overtakes = action.filter(|_| admission.op == Op::Compensate);
        let waits = |p: &Parked| p.saga_id == admission.saga_id && !p.aside;
        let queued = !admission.from_parked && self.parked.values().any(waits);
        let before = Before {
            parked: queued && overtakes.is_none(),
            overtakes,
            action: self.barrier.get(&key(Op::Action)).cloned(),
            compensation: self.barrier.get(&key(Op::Compensate)).cloned(),
            ended: admission.joins && self.has_ended(admission.saga_id),
            arrivals: self.arrivals.get(&key(admission.op)).filter(|_| admission.joins).cloned().unwrap_or_default(),
        };
        let mark = match admission.phase {
            Phase::Whole | Phase::Start if admission.joins => Mark::Waiting,
            Phase::Whole => Mark::Done,
            Phase::Start => Mark::Started,
            Phase::Finish | Phase::Recheck => return before,
        };
        if before.parked {
            return before;
        }
        // The key is stored with the start.
        let effect_key = admission.effect_key.filter(|_| !admission.joins);
        let row = |mark, effect_key| Row { mark, cause: Some(admission.cause.clone()), effect_key, round: 0 };
        match admission.op {
            Op::Action => {
                self.barrier.entry(key(Op::Action)).or_insert_with(|| row(mark, effect_key));
            }
            Op::Compensate => {
                self.barrier.entry(key(Op::Action)).or_insert_with(|| row(Mark::Null, None));
                self.barrier.entry(key(Op::Compensate)).or_insert_with(|| row(mark, effect_key));
            }
        }
        before
    }

    pub(super) fn apply(&mut self, changes: Changes, now: Timestamp) -> Committed {
        for change in changes.marks {
            if let Some(row) = self.barrier.get_mut(&(change.saga_id, change.step.to_owned(), change.op)) {
                row.mark = change.mark;
                row.effect_key = change.effect_key.or(row.effect_key);
                row.round = change.round.unwrap_or(row.round);
            }
        }
        for NewArrival { saga_id, step, op, arrival, is_last } in changes.arrivals {
            let arrivals = self.arrivals.entry((saga_id, step.to_owned(), op)).or_default();
            if arrivals.iter().all(|known| known.cause.event_type != arrival.cause.event_type) {
                arrivals.push(arrival);
            }
            if is_last {
                arrivals.iter_mut().for_each(|arrival| arrival.data.clear());
            }
        }
        for ((saga_id, _, op), row) in &mut self.barrier {
            if changes.close.contains(saga_id) && *op == Op::Action && row.mark == Mark::Waiting {
                row.mark = Mark::Null;
            }
        }
        for failed in changes.failed {
            self.failed.entry((failed.saga_id, failed.step)).or_insert(failed);
        }
        self.outbox.retain(|_, row| !changes.sent.contains(&row.id));
        for row in changes.outbox {
            self.last_written += 1;
            self.outbox.insert(self.last_written, OutboxRow { created_at: now, ..row });
        }
        self.timers.retain(|_, timer| !changes.disarm.iter().any(|disarm| disarm.includes(timer)));
        for Timer { saga_id, step, kind, after: wait, trace } in changes.arm {
            if kind != TimerKind::Step && self.has_ended(saga_id) {
                continue;
            }
            let timer = DueTimer { saga_id, step: step.to_owned(), kind, due: after(now, wait), trace };
            self.timers.entry((saga_id, step.to_owned(), kind)).or_insert(timer);
        }
        changes.park.into_iter().for_each(|change| self.park(change, now));
        let mut committed = Committed::default();
        for Progress { saga_id, at } in changes.begun {
            let (begun, _) = self.progress.entry(saga_id).or_default();
            committed.begun += u64::from(begun.is_none());
            begun.get_or_insert(at);
        }
        for Progress { saga_id, at } in changes.ended {
            let (begun, ended) = self.progress.entry(saga_id).or_default();
            if ended.is_none() {
                *ended = Some(at);
                committed.ended.extend(begun.map(|at| Progress { saga_id, at }));
            }
        }
        committed
    }

    pub(super) fn has_ended(&self, saga_id: SagaId) -> bool {
        self.progress.get(&saga_id).is_some_and(|(_, ended)| ended.is_some())
    }

    pub(super) fn park(&mut self, change: ParkChange, now: Timestamp) {
        match change {
            ParkChange::Append(parking) => self.append(parking, now),
            ParkChange::Overtake { seq, by } => {
                self.parked.retain(|_, p| p.saga_id != by.saga_id || p.cause != by.cause);
                self.parked.insert(seq, Parked::new(by, false, now));
            }
            ParkChange::Retry { at, attempts, pause, failed_at, reason: _ } => {
                if let Some(parked) = self.at(at).filter(|parked| !parked.blocked) {
                    (parked.attempts, parked.due, parked.failed_at) =
                        (attempts, Some(after(now, pause)), Some(failed_at));
                }
            }
            ParkChange::Again { at, round, pause } => {
                if let Some(parked) = self.at(at) {
                    (parked.aside, parked.round, parked.blocked) = (true, round, false);
                    (parked.attempts, parked.failed_at, parked.due) = (0, None, Some(after(now, pause)));
                    self.promote(at.saga_id);
                }
            }
            ParkChange::Block { at, reason: _ } => {
                if let Some(parked) = self.at(at) {
                    (parked.blocked, parked.due, parked.aside) = (true, None, false);
                }
            }
            ParkChange::Remove { at } => {
                if self.at(at).is_some() {
                    self.parked.remove(&at.seq);
                    self.promote(at.saga_id);
                }
            }
        }
    }

    pub(super) fn append(&mut self, parking: Parking, now: Timestamp) {
        let saga_id = parking.saga_id;
        let head = self.parked.iter().find(|(_, p)| p.saga_id == saga_id && !p.aside).map(|(seq, _)| *seq);
        let same = |p: &Parked| p.saga_id == saga_id && p.cause == parking.cause;
        let known = self.parked.iter_mut().find(|(_, parked)| same(parked));
        let place = |r: &Record| (r.topic.clone(), r.partition, r.offset);
        match known {
            Some((_, known)) if place(&known.record) == place(&parking.record) => {}
            // What waits for its next round is not replaced.
            Some((_, known)) if known.aside => {}
            Some((seq, known)) => {
                let waits = head != Some(*seq) && known.due.is_none();
                let round = known.round;
                *known = Parked { round, ..Parked::new(parking, waits, now) };
            }
            None => {
                self.last_seq += 1;
                self.parked.insert(self.last_seq, Parked::new(parking, head.is_some(), now));
            }
        }
    }

    pub(super) fn at(&mut self, at: ParkedAt) -> Option<&mut Parked> {
        let is_there = |parked: &&mut Parked| parked.op == at.op && at.round.is_none_or(|round| round == parked.round);
        self.parked.get_mut(&at.seq).filter(is_there)
    }

    /// Makes the current head due.
    pub(super) fn promote(&mut self, saga_id: SagaId) {
        if let Some(head) = self.parked.values_mut().find(|p| p.saga_id == saga_id && !p.aside).filter(|p| !p.blocked) {
            head.due.get_or_insert(Timestamp::MIN);
        }
    }

    /// The head of every parked saga, also of one of which only a round that failed is parked.
    pub(super) fn heads(&self) -> Vec<&Parked> {
        let mut sagas = BTreeSet::new();
        let waits = |p: &&Parked| !p.aside || p.failed_at.is_some();
        self.parked.values().filter(waits).filter(|p| sagas.insert(p.saga_id)).collect()
    }
}

//! The worker: one loop that takes events, keeps their order within a saga, and has at most one transaction open.

mod failures;
mod intake;
mod label_parked;
mod slot;
mod turns;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
};

use futures::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;

use crate::runtime::{
    RunError, Shared,
    consume::saga_queues::SagaQueues,
    consume::{offsets::Offsets, repeats::Repeat},
    effects::calls::{CallError, Effects},
    in_flight::{InFlight, TakenFrom},
    publish::dead_letters::DeadLettered,
    stage::{self, Happened, Stage},
    telemetry::metrics::StepLabel,
    telemetry::spans::HandlingOutcome,
    transaction::counts::label,
    transaction::result::Done,
};
use crate::{
    clock::{Clock, after},
    event::SagaId,
    outcome::StepError,
    record::TopicPartition,
    step::Erased,
    store::Store,
    transport::{Consumer, Producer, RevokeGuard, Signal},
};
use slot::{Slot, Turn};

/// How many events of one saga may wait in memory. Above it the partition pauses; the other partitions go on.
const FULL_QUEUE: usize = 64;

pub(crate) struct Worker<S: Store, P: Producer, C: Clock> {
    shared: Rc<Shared<S, P, C>>,
    offsets: Offsets,
    queues: SagaQueues<InFlight, Repeat>,
    /// Paused partitions, and the saga whose events fill its queue.
    full: HashMap<TopicPartition, SagaId>,
    /// Partitions to pause (true) or resume (false) after this turn of the loop.
    pauses: Vec<(TopicPartition, bool)>,
    effects: Effects,
    ready: VecDeque<InFlight>,
    slot: Option<LocalBoxFuture<'static, Slot>>,
    calls: FuturesUnordered<LocalBoxFuture<'static, (InFlight, Result<Erased, CallError>)>>,
    dead_letters: FuturesUnordered<LocalBoxFuture<'static, DeadLettered>>,
    revoking: Vec<(Vec<TopicPartition>, RevokeGuard)>,
    /// Events in flight that came from partitions, and their bytes.
    in_flight: usize,
    bytes: usize,
    /// Claimed heads of parked sagas. None is claimed twice, even when its lease runs out under load.
    claimed: HashSet<i64>,
    /// Whether all events that an earlier version parked are labelled with their steps.
    labelled: bool,
    /// When the slot is next wanted for anything but a batch.
    claim_at: Timestamp,
    try_at: Timestamp,
    fire_at: Timestamp,
    /// How many events, and how many deadlines, may share the next transaction. Fewer after a transaction failed.
    batch_most: usize,
    fire_most: usize,
    /// What the slot was used for last.
    turn: Turn,
}

impl<S: Store, P: Producer, C: Clock> Worker<S, P, C> {
    pub(crate) fn new(shared: Rc<Shared<S, P, C>>) -> Self {
        let now = shared.clock.now();
        Self {
            effects: Effects::new(&shared),
            offsets: Offsets::default(),
            queues: SagaQueues::default(),
            full: HashMap::new(),
            pauses: Vec::new(),
            ready: VecDeque::new(),
            slot: None,
            calls: FuturesUnordered::new(),
            dead_letters: FuturesUnordered::new(),
            revoking: Vec::new(),
            in_flight: 0,
            bytes: 0,
            claimed: HashSet::new(),
            labelled: false,
            claim_at: now,
            try_at: now,
            fire_at: now,
            batch_most: shared.options.max_batch,
            fire_most: shared.options.max_batch,
            turn: Turn::Batch,
            shared,
        }
    }

    pub(crate) async fn run(
        mut self,
        mut consumer: impl Consumer,
        stop: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let stop = stop.fuse();
        futures::pin_mut!(stop);
        let shared = self.shared.clone();
        let mut drain_until: Option<Timestamp> = None;
        let result = loop {
            shared.health.turned(shared.clock.now());
            if let Some(until) = drain_until {
                let idle = self.in_flight == 0 && self.claimed.is_empty() && self.slot.is_none();
                if idle {
                    break Ok(());
                }
                if shared.clock.now() >= until {
                    tracing::warn!(
                        events = self.in_flight,
                        "not all events in flight ended in time; they are handled again at the next start"
                    );
                    break Ok(());
                }
            }
            // Before the slot is filled again: under load it is never free for long.
            self.release_revoked(&consumer);
            self.fill_slot(drain_until.is_some());
            let room = if drain_until.is_some() { 0 } else { self.room() };
            let wake = self.wake_in(drain_until);
            let tick = shared.clock.sleep(wake);
            futures::pin_mut!(tick);
            tokio::select! {
                biased;
                () = &mut stop, if drain_until.is_none() => {
                    drain_until = Some(after(shared.clock.now(), shared.options.drain));
                    shared.health.stopping();
                }
                slot = async { match self.slot.as_mut() { Some(slot) => slot.await, None => futures::future::pending().await } } => {
                    self.slot = None;
                    self.slot_done(slot);
                }
                Some((event, answer)) = self.calls.next(), if !self.calls.is_empty() => self.answered(event, answer),
                Some(dead_lettered) = self.dead_letters.next(), if !self.dead_letters.is_empty() => self.dead_lettered(dead_lettered),
                signal = consumer.next(room) => match signal {
                    Signal::Records(records) => records.into_iter().for_each(|record| self.take(record)),
                    Signal::Assigned(partitions) => {
                        shared.metrics.rebalances.inc();
                        tracing::info!(?partitions, "partitions assigned");
                        // A partition may come back before it was released: it is ours again, under a new epoch.
                        for (revoked, _) in &mut self.revoking {
                            revoked.retain(|partition| !partitions.contains(partition));
                        }
                        // What is assigned anew is not paused.
                        for (partition, _) in self.full.extract_if(|partition, _| partitions.contains(partition)) {
                            self.pauses.push((partition, false));
                        }
                        partitions.into_iter().for_each(|partition| self.offsets.assign(partition));
                        // Events that the old owner committed are published before ours of the same sagas.
                        shared.outbox.look_for_all();
                    }
                    Signal::Revoked(partitions, guard) => {
                        shared.metrics.rebalances.inc();
                        tracing::info!(?partitions, "partitions revoked");
                        self.fence(&partitions);
                        self.revoking.push((partitions, guard));
                    }
                    Signal::Waiting(why) => shared.health.set_waiting("broker", Some(why)),
                    Signal::Ready => shared.health.set_waiting("broker", None),
                    Signal::Fatal(why) => break Err(RunError::Fatal(why)),
                },
                () = tick => {}
            }
            for (partition, paused) in self.pauses.drain(..) {
                consumer.pause(&[partition], paused);
            }
            let moved = self.offsets.committable();
            if !moved.is_empty() {
                consumer.store_offsets(&moved);
            }
            #[allow(clippy::cast_possible_wrap, reason = "far below 2^63")]
            shared.metrics.in_flight.set(self.in_flight as i64);
        };
        self.revoking.clear();
        consumer.close().await;
        result
    }

    /// How many more records may be taken.
    fn room(&self) -> usize {
        let options = &self.shared.options;
        if self.bytes >= options.max_bytes_in_flight {
            return 0;
        }
        options.max_in_flight.saturating_sub(self.in_flight)
    }

    /// Ends a saga's current event and what repeated it, and lets the saga's next event start.
    fn leave(&mut self, saga: SagaId, handled: Option<StepLabel>) {
        let (repeats, next) = self.queues.leave(saga);
        if let Some(step) = handled.filter(|_| !repeats.is_empty()) {
            self.shared.metrics.duplicates.get_or_create(&step).inc_by(repeats.len() as u64);
        }
        for Repeat { partition, epoch, offset, bytes } in repeats {
            self.in_flight -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
            self.offsets.done(&partition, epoch, offset);
        }
        self.ready.extend(next);
        if !self.full.is_empty() && self.queues.waiting(saga) <= FULL_QUEUE / 4 {
            let resumed: Vec<TopicPartition> =
                self.full.extract_if(|_, hot| *hot == saga).map(|(partition, _)| partition).collect();
            self.pauses.extend(resumed.into_iter().map(|partition| (partition, false)));
        }
    }

    /// Ends an event: its offset may be committed, and its saga's next event may start.
    fn settle(&mut self, event: &InFlight) {
        self.effects.unused(event, self.shared.clock.now());
        self.leave_origin(event);
        self.leave(event.saga_id(), Some(label(event)));
    }

    /// Marks the offset as done, or the parked event as no longer claimed.
    fn leave_origin(&mut self, event: &InFlight) {
        match event.origin {
            TakenFrom::Partition { epoch } => {
                self.in_flight -= 1;
                self.bytes = self.bytes.saturating_sub(event.record.size());
                self.offsets.done(&event.record.topic_partition(), epoch, event.record.offset);
            }
            TakenFrom::Parked { seq } => {
                self.claimed.remove(&seq);
            }
        }
    }

    /// Moves an event on after its transaction committed.
    fn advanced(&mut self, mut event: InFlight, Done { happened, keys, origin, joined, prepared }: Done) {
        if origin != event.origin {
            self.moved(&mut event, origin);
        }
        event.keys = keys;
        event.input.prepared = prepared;
        if let Some(joined) = joined {
            event.input.trigger = joined;
        }
        self.goes_on(event, happened);
    }

    /// The event is now a parked one, in the place of the action that it compensates, so its offset is done.
    fn moved(&mut self, event: &mut InFlight, origin: TakenFrom) {
        self.leave_origin(event);
        event.origin = origin;
        if let TakenFrom::Parked { seq } = origin {
            self.claimed.insert(seq);
        }
    }

    /// Moves the event to its next stage.
    pub(crate) fn goes_on(&mut self, mut event: InFlight, happened: Happened) {
        match stage::next(event.stage, happened) {
            Ok(Stage::Settled) => self.settle(&event),
            Ok(_) if !self.is_ours(&event) => self.handed_over(&event),
            Ok(stage @ (Stage::Call | Stage::Abandon)) => {
                event.stage = stage;
                if stage == Stage::Abandon {
                    // An earlier attempt used them up. A crash lost the reason.
                    event.failure.get_or_insert_with(|| StepError::transient("its attempts are used up"));
                }
                self.calls.push(self.effects.call(self.shared.clone(), event));
            }
            Ok(Stage::DeadLetter) => self.dead_letter(event),
            Ok(stage) => {
                self.effects.unused(&event, self.shared.clock.now());
                event.pass = None;
                event.is_admitted = false;
                event.stage = stage;
                self.ready.push_back(event);
            }
            Err(illegal) => self.not_acknowledged(event, &illegal),
        }
    }

    /// Keeps an event whose stage cannot follow. It becomes a dead letter where that is still possible. Otherwise it stays in
    /// flight, and so does the offset of its partition.
    fn not_acknowledged(&mut self, mut event: InFlight, illegal: &stage::Illegal) {
        event.lines().in_scope(|| tracing::error!(%illegal, "the event is not acknowledged"));
        if matches!(event.stage, Stage::DeadLetter | Stage::Block | Stage::Settled) {
            self.shared.health.set_waiting("defect", Some(illegal.to_string()));
            return;
        }
        event.failure = Some(StepError::permanent(illegal.to_string()));
        self.dead_letter(event);
    }

    /// Drops an event whose partition another process owns by now, or soon. That process handles it again.
    fn handed_over(&mut self, event: &InFlight) {
        self.record_handed_over(event);
        self.drop_event(event);
    }

    /// Drops an event without committing its offset.
    fn drop_event(&mut self, event: &InFlight) {
        self.in_flight -= 1;
        self.bytes = self.bytes.saturating_sub(event.record.size());
        self.effects.unused(event, self.shared.clock.now());
        self.leave(event.saga_id(), None);
    }

    fn record_handed_over(&self, event: &InFlight) {
        let ending = HandlingOutcome { outcome: "handed_over", error: None };
        self.shared.spans.process(event, self.shared.clock.now(), &ending);
    }

    /// Whether this process still owns the event's partition and is not about to release it. A redelivery resumes what was
    /// started, under the same key.
    fn is_ours(&self, event: &InFlight) -> bool {
        match event.origin {
            TakenFrom::Partition { epoch } => {
                let partition = event.record.topic_partition();
                let is_going = self.revoking.iter().any(|(partitions, _)| partitions.contains(&partition));
                !is_going && self.offsets.is_current(&partition, epoch)
            }
            TakenFrom::Parked { .. } => true,
        }
    }

    /// Drops what waits of these partitions, so that nothing of them starts.
    fn fence(&mut self, partitions: &[TopicPartition]) {
        let gone = |event: &InFlight| {
            matches!(event.origin, TakenFrom::Partition { .. }) && partitions.contains(&event.record.topic_partition())
        };
        for (event, repeats) in self.queues.drop_waiting(gone) {
            self.in_flight -= 1 + repeats.len();
            let bytes = event.record.size() + repeats.iter().map(|repeat| repeat.bytes).sum::<usize>();
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        let (gone, kept): (Vec<InFlight>, Vec<InFlight>) = self.ready.drain(..).partition(gone);
        self.ready.extend(kept);
        for event in gone {
            if !matches!(event.stage, Stage::Whole | Stage::Start) {
                self.record_handed_over(&event);
            }
            self.drop_event(&event);
        }
    }

    /// Releases revoked partitions once no transaction is open.
    fn release_revoked(&mut self, consumer: &impl Consumer) {
        if self.slot.is_some() || self.revoking.is_empty() {
            return;
        }
        consumer.store_offsets(&self.offsets.committable());
        for (partitions, guard) in self.revoking.drain(..) {
            partitions.iter().for_each(|partition| self.offsets.revoke(partition));
            drop(guard);
        }
    }
}

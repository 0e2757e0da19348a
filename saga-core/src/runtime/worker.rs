//! The worker: one loop that takes events, keeps their order within a saga, and has at most one transaction under way.

mod failures;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    RunError, Shared,
    attempt::Done,
    batch,
    batch::Batch,
    burial::{Burial, Buried},
    effects::{CallError, Effects},
    lanes::{Entered, Lanes, Lined},
    metrics::StepLabel,
    offsets::Offsets,
    plan,
    spans::Ending,
    stage::{self, Happened, Stage},
    timers,
    work::{Origin, Reading, Work, read},
};
use crate::{
    barrier::Op,
    clock::{Clock, after},
    dead_letter::letter,
    envelope::{open, trace_of},
    event::SagaId,
    handler::Seen,
    identity,
    outcome::StepError,
    participant::Participant,
    record::{Record, TopicPartition},
    step::Erased,
    store::{ParkedEvent, ParkedLabel, Store, StoreError},
    transport::{Consumer, Producer, RevokeGuard, Signal},
};

/// What the transaction slot was used for.
enum Slot {
    Batch(Batch),
    Parked(Result<Vec<ParkedEvent>, StoreError>),
    Timers(Result<usize, StepError>),
    Labelled(Result<(), StoreError>),
}

/// So many events of one saga wait in memory; more are left to the broker, and its other partitions go on.
const FULL_LANE: usize = 64;

/// A record that only repeats an event in flight.
#[derive(Debug)]
struct Repeat {
    partition: TopicPartition,
    epoch: u64,
    offset: i64,
    bytes: usize,
}

impl Repeat {
    /// One from a partition; a parked event has a row of its own to be removed.
    fn of(work: &Work) -> Option<Self> {
        let Origin::Partition { epoch } = work.origin else { return None };
        let (partition, offset, bytes) = (work.record.topic_partition(), work.record.offset, size(&work.record));
        Some(Self { partition, epoch, offset, bytes })
    }
}

impl Lined for Work {
    /// The event, the assignment in which it was read, and its bytes: one that was mended and published once more under its
    /// old id is another, and one that is redelivered must be handled should the earlier assignment's work be handed over.
    fn identity(&self) -> Uuid {
        self.repeatable
    }
}

pub(super) struct Worker<S: Store, P: Producer, C: Clock> {
    shared: Rc<Shared<S, P, C>>,
    offsets: Offsets,
    lanes: Lanes<Work, Repeat>,
    /// Partitions that are paused because one saga has brought too much at once, and that saga.
    full: HashMap<TopicPartition, SagaId>,
    /// Pauses and their ends that the consumer is still to be told.
    pauses: Vec<(TopicPartition, bool)>,
    effects: Effects,
    ready: VecDeque<Work>,
    slot: Option<LocalBoxFuture<'static, Slot>>,
    calls: FuturesUnordered<LocalBoxFuture<'static, (Work, Result<Erased, CallError>)>>,
    burials: FuturesUnordered<LocalBoxFuture<'static, Buried>>,
    revoking: Vec<(Vec<TopicPartition>, RevokeGuard)>,
    /// Events in hand that came from partitions, and their bytes.
    in_hand: usize,
    bytes: usize,
    /// Heads of parked sagas in hand, so that none is claimed twice when its lease runs out under load.
    claimed: HashSet<i64>,
    /// What an earlier version has parked says of its steps by now.
    labelled: bool,
    /// What the slot is wanted for besides batches.
    claim_at: Timestamp,
    fire_at: Timestamp,
    unknown_types: HashSet<String>,
}

impl<S: Store, P: Producer, C: Clock> Worker<S, P, C> {
    pub(super) fn new(shared: Rc<Shared<S, P, C>>) -> Self {
        let now = shared.clock.now();
        Self {
            effects: Effects::new(&shared),
            shared,
            offsets: Offsets::default(),
            lanes: Lanes::default(),
            full: HashMap::new(),
            pauses: Vec::new(),
            ready: VecDeque::new(),
            slot: None,
            calls: FuturesUnordered::new(),
            burials: FuturesUnordered::new(),
            revoking: Vec::new(),
            in_hand: 0,
            bytes: 0,
            claimed: HashSet::new(),
            labelled: false,
            claim_at: now,
            fire_at: now,
            unknown_types: HashSet::new(),
        }
    }

    pub(super) async fn run(
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
                let idle = self.in_hand == 0 && self.claimed.is_empty() && self.slot.is_none();
                if idle {
                    break Ok(());
                }
                if shared.clock.now() >= until {
                    tracing::warn!(
                        events = self.in_hand,
                        "not all work in hand ended in time; it is redone at the next start"
                    );
                    break Ok(());
                }
            }
            // Before the slot is taken again: under load it is never free for long.
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
                Some((work, answer)) = self.calls.next(), if !self.calls.is_empty() => self.answered(work, answer),
                Some(buried) = self.burials.next(), if !self.burials.is_empty() => self.buried(buried),
                signal = consumer.next(room) => match signal {
                    Signal::Records(records) => records.into_iter().for_each(|record| self.take(record)),
                    Signal::Assigned(partitions) => {
                        shared.metrics.rebalances.inc();
                        tracing::info!(?partitions, "partitions assigned");
                        // A partition may come back before it has been let go: it is ours, under a new epoch.
                        for (revoked, _) in &mut self.revoking {
                            revoked.retain(|partition| !partitions.contains(partition));
                        }
                        // What is assigned anew is not paused.
                        for (partition, _) in self.full.extract_if(|partition, _| partitions.contains(partition)) {
                            self.pauses.push((partition, false));
                        }
                        partitions.into_iter().for_each(|partition| self.offsets.assign(partition));
                        // An old owner's events go out before what is committed here for the same sagas.
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
            shared.metrics.in_hand.set(self.in_hand as i64);
        };
        self.revoking.clear();
        consumer.close().await;
        result
    }

    /// How many more records may be taken.
    fn room(&self) -> usize {
        let options = &self.shared.options;
        if self.bytes >= options.max_bytes_in_hand {
            return 0;
        }
        options.max_in_hand.saturating_sub(self.in_hand)
    }

    fn wake_in(&self, drain_until: Option<Timestamp>) -> Duration {
        let now = self.shared.clock.now();
        let longest = self.shared.options.look_every;
        if self.slot.is_some() {
            // The slot's end wakes the loop before anything that waits for the slot.
            return longest;
        }
        let fire_at = self.shared.has_deadlines.then_some(self.fire_at);
        let claim_at = (self.claimed.len() < self.shared.options.max_batch).then_some(self.claim_at);
        let next = match drain_until {
            Some(until) => until,
            None => fire_at.into_iter().chain(claim_at).min().unwrap_or_else(|| after(now, longest)),
        };
        let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
        wait.clamp(Duration::from_millis(1), longest)
    }

    /// Starts the next use of the transaction slot, when it is free.
    fn fill_slot(&mut self, draining: bool) {
        if self.slot.is_some() {
            return;
        }
        let shared = self.shared.clone();
        let now = shared.clock.now();
        // The clock may have been set back.
        let soon = after(now, shared.options.look_every);
        self.claim_at = self.claim_at.min(soon);
        self.fire_at = self.fire_at.min(soon);
        if !self.labelled {
            // Nothing is admitted before: what an earlier version parked would not be known again.
            if draining || now < self.claim_at {
                return;
            }
            self.claim_at = after(now, shared.options.look_every);
            self.slot = Some(async move { Slot::Labelled(label_parked(&shared).await) }.boxed_local());
        } else if !draining && now >= self.claim_at && self.claimed.len() < shared.options.max_batch {
            self.claim_at = after(now, shared.options.look_every);
            let lease = shared.options.lease;
            // No more than can be handled within the lease; the others stay where they are safe.
            let (limit, resting) = self.effects.claimable(&shared, shared.options.max_batch - self.claimed.len());
            let claim = async move { Slot::Parked(shared.store.claim_parked(lease, limit, &resting).await) };
            self.slot = Some(claim.boxed_local());
        } else if !draining && shared.has_deadlines && now >= self.fire_at {
            self.fire_at = after(now, shared.options.look_every);
            let limit = shared.options.max_batch;
            self.slot = Some(async move { Slot::Timers(timers::fire(shared, limit).await) }.boxed_local());
        } else if !self.ready.is_empty() {
            let works = self.next_batch(now);
            self.slot = Some(async move { Slot::Batch(batch::run(shared, works).await) }.boxed_local());
        }
    }

    /// What shares the next transaction: fresh events, or those that were parked, whichever waits longer. The ones may wait for a
    /// lock that somebody holds, and the others not for them.
    fn next_batch(&mut self, now: Timestamp) -> Vec<Work> {
        let is_parked = |work: &Work| matches!(work.origin, Origin::Parked { .. });
        let parked = self.ready.front().is_some_and(is_parked);
        if parked && !self.shared.blame.borrow().is_clear() {
            // Some are tried and the others wait: each time others are first. Those of one saga keep their order in its lane.
            self.ready.make_contiguous().sort_by(|a, b| a.turn(now).total_cmp(&b.turn(now)));
        }
        let (mut works, mut others) = (Vec::new(), VecDeque::new());
        for mut work in self.ready.drain(..) {
            if works.len() == self.shared.options.max_batch || is_parked(&work) != parked {
                others.push_back(work);
                continue;
            }
            // Asked before the start is recorded: what was never started needs no call to be undone. Whether a compensation calls
            // anything is not known before its transaction.
            if work.stage == Stage::Start && work.op == Op::Action && work.pass.is_none() {
                match self.effects.ask(&self.shared, &work) {
                    Ok(pass) => work.pass = Some(pass),
                    Err(until) => {
                        work.not_called(until, now);
                        work.stage = Stage::Park;
                    }
                }
            }
            if matches!(work.stage, Stage::Whole | Stage::Start)
                && let Some(why) = self.shared.blame.borrow_mut().holds((work.step, work.op), parked, now)
            {
                work.refused_for_all(why, now, self.shared.options.longest_pause);
                work.stage = Stage::Park;
            }
            works.push(work);
        }
        self.ready = others;
        works
    }

    /// A record was read.
    fn take(&mut self, record: Record) {
        let partition = record.topic_partition();
        let offset = record.offset;
        let Some(epoch) = self.offsets.take(&partition, offset) else { return };
        let record = Arc::new(record);
        match read(&self.shared.participant, record.clone(), Origin::Partition { epoch }) {
            Reading::PassOver => {
                self.shared.metrics.passed_over.inc();
                self.warn_of_unknown_type(&record);
                self.offsets.done(&partition, epoch, offset);
            }
            Reading::Poison(poison) => {
                let bytes = size(&record);
                self.in_hand += 1;
                self.bytes += bytes;
                let now = self.shared.clock.now();
                let saga_id = record.saga_id();
                let place = self.shared.spans.arrived(&trace_of(&record), saga_id.unwrap_or_else(SagaId::random));
                let _lines = Seen::lines_of(saga_id, &place.context, None).entered();
                let dead = letter(self.shared.participant.name, &record, &poison, 1, now);
                tracing::warn!(%partition, offset, reason = poison.reason.as_str(), why = poison.message, "dead letter");
                let buried = Buried::Poison { partition, epoch, offset, bytes };
                let burial =
                    Burial { dead, reason: poison.reason, buried, place, record, began: now, why: poison.message };
                self.burials.push(burial.carry_out(self.shared.clone()).boxed_local());
            }
            Reading::Event(mut work) => {
                self.in_hand += 1;
                self.bytes += size(&record);
                self.take_in_hand(&mut work);
                if let Some(published) = work.envelope.time {
                    self.shared.metrics.waited(published, work.taken);
                }
                self.enter(*work);
            }
        }
    }

    /// From here on it is being handled.
    fn take_in_hand(&self, work: &mut Work) {
        work.taken = self.shared.clock.now();
        work.place = self.shared.spans.arrived(&work.envelope.trace, work.saga_id());
    }

    fn warn_of_unknown_type(&mut self, record: &Record) {
        let known = &self.shared.options.known_events;
        if known.is_empty() || self.unknown_types.len() >= 100 {
            return;
        }
        if let Ok(opened) = open(record)
            && !known.contains(&opened.event_type())
            && self.unknown_types.insert(opened.event_type().to_owned())
        {
            let event_type: String = opened.event_type().chars().take(100).collect();
            tracing::warn!(event_type, topic = %record.topic, "passing over events of a type that no participant declares");
        }
    }

    fn enter(&mut self, work: Work) {
        let (saga, partition) = (work.saga_id(), work.record.topic_partition());
        let fresh = matches!(work.origin, Origin::Partition { .. });
        match self.lanes.enter(saga, work, Repeat::of) {
            Entered::Starts(work) => self.ready.push_back(work),
            Entered::Waits(count) if fresh && count >= FULL_LANE && !self.full.contains_key(&partition) => {
                tracing::debug!(saga_id = %saga, %partition, "one saga brings too much at once: its partition pauses");
                self.pauses.push((partition.clone(), true));
                self.full.insert(partition, saga);
            }
            Entered::Waits(_) | Entered::Repeats => {}
        }
    }

    /// The saga's event is done with: so is what repeated it, and its next event may start.
    fn leave(&mut self, saga: SagaId, handled: Option<StepLabel>) {
        let (repeats, next) = self.lanes.leave(saga);
        if let Some(step) = handled.filter(|_| !repeats.is_empty()) {
            self.shared.metrics.duplicates.get_or_create(&step).inc_by(repeats.len() as u64);
        }
        for Repeat { partition, epoch, offset, bytes } in repeats {
            self.in_hand -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
            self.offsets.done(&partition, epoch, offset);
        }
        self.ready.extend(next);
        if !self.full.is_empty() && self.lanes.waiting(saga) <= FULL_LANE / 4 {
            let resumed: Vec<TopicPartition> =
                self.full.extract_if(|_, hot| *hot == saga).map(|(partition, _)| partition).collect();
            self.pauses.extend(resumed.into_iter().map(|partition| (partition, false)));
        }
    }

    /// The work is done with: its offset may be committed, and its saga's next event may start.
    fn settle(&mut self, work: &Work) {
        self.effects.unused(work, self.shared.clock.now());
        self.leave_origin(work);
        self.leave(work.saga_id(), Some(plan::label(work)));
    }

    /// Where the event came from need not know it any more.
    fn leave_origin(&mut self, work: &Work) {
        match work.origin {
            Origin::Partition { epoch } => {
                self.in_hand -= 1;
                self.bytes = self.bytes.saturating_sub(size(&work.record));
                self.offsets.done(&work.record.topic_partition(), epoch, work.record.offset);
            }
            Origin::Parked { seq } => {
                self.claimed.remove(&seq);
            }
        }
    }

    fn slot_done(&mut self, slot: Slot) {
        let now = self.shared.clock.now();
        let later = after(now, self.shared.options.look_every);
        match slot {
            Slot::Batch(batch) => {
                if let Some(due) = batch.due {
                    self.claim_at = self.claim_at.min(due);
                    self.fire_at = self.fire_at.min(due);
                }
                for (work, done) in batch.works {
                    match done {
                        Ok(done) => self.advanced(work, done),
                        Err(failure) if self.is_ours(&work) => self.failed(work, failure),
                        Err(_) => self.handed_over(&work),
                    }
                }
            }
            Slot::Parked(Ok(events)) => {
                // There may be more than one claim takes. Those of a step that is on trial are not all wanted.
                if !events.is_empty() && !self.effects.is_trying(now) {
                    self.claim_at = now;
                }
                events.into_iter().for_each(|event| self.unpark(event));
            }
            Slot::Timers(Ok(fired)) => {
                if fired > 0 {
                    self.fire_at = now;
                }
            }
            Slot::Parked(Err(error)) => {
                tracing::warn!(%error, "parked sagas cannot be looked for now");
                self.claim_at = later;
            }
            Slot::Labelled(Ok(())) => {
                self.labelled = true;
                self.claim_at = now;
            }
            Slot::Labelled(Err(error)) => tracing::warn!(%error, "what an earlier version parked cannot be read now"),
            Slot::Timers(Err(error)) => {
                tracing::warn!(%error, "deadlines cannot be fired now");
                self.fire_at = later;
            }
        }
    }

    /// A transaction has taken the event on.
    fn advanced(&mut self, mut work: Work, Done { happened, keys, origin }: Done) {
        if origin != work.origin {
            self.moved(&mut work, origin);
        }
        work.keys = keys;
        self.goes_on(work, happened);
    }

    /// It stands among the parked events from now on, in the place of what it undoes: its offset is done.
    fn moved(&mut self, work: &mut Work, origin: Origin) {
        self.leave_origin(work);
        work.origin = origin;
        if let Origin::Parked { seq } = origin {
            self.claimed.insert(seq);
        }
    }

    /// The event's next stage, after what happened.
    pub(super) fn goes_on(&mut self, mut work: Work, happened: Happened) {
        match stage::next(work.stage, happened) {
            Ok(Stage::Settled) => self.settle(&work),
            Ok(_) if !self.is_ours(&work) => self.handed_over(&work),
            Ok(stage @ (Stage::Call | Stage::Abandon)) => {
                work.stage = stage;
                if stage == Stage::Abandon {
                    // An earlier attempt has used them up, and a crash has taken along why.
                    work.failure.get_or_insert_with(|| StepError::transient("its attempts are used up"));
                }
                self.calls.push(self.effects.call(self.shared.clone(), work));
            }
            Ok(Stage::DeadLetter) => self.dead_letter(work),
            Ok(stage) => {
                self.effects.unused(&work, self.shared.clock.now());
                work.pass = None;
                work.stage = stage;
                self.ready.push_back(work);
            }
            Err(illegal) => self.held_by_defect(work, &illegal),
        }
    }

    /// What cannot be must not be acknowledged. As long as it can, the event becomes a dead letter; else it stays in flight, and
    /// with it the offset of its partition.
    fn held_by_defect(&mut self, mut work: Work, illegal: &stage::Illegal) {
        work.lines().in_scope(|| tracing::error!(%illegal, "the event is held"));
        if matches!(work.stage, Stage::DeadLetter | Stage::Hold | Stage::Settled) {
            self.shared.health.set_waiting("defect", Some(illegal.to_string()));
            return;
        }
        work.failure = Some(StepError::permanent(illegal.to_string()));
        self.dead_letter(work);
    }

    /// The head of a parked saga is due.
    fn unpark(&mut self, event: ParkedEvent) {
        if !self.claimed.insert(event.seq) {
            return;
        }
        let origin = Origin::Parked { seq: event.seq };
        match read(&self.shared.participant, Arc::new(event.record), origin) {
            Reading::Event(mut work) => {
                work.attempts = event.attempts;
                work.failed_at = event.failed_at;
                self.take_in_hand(&mut work);
                self.enter(*work);
            }
            Reading::PassOver | Reading::Poison(_) => {
                // It could be read when it was parked: this is another version of the program. It waits for the right one.
                tracing::error!(saga_id = %event.saga_id, "a parked event cannot be read by this version");
                self.claimed.remove(&event.seq);
            }
        }
    }

    /// Another process owns its partition by now, and does it again.
    fn handed_over(&mut self, work: &Work) {
        self.tell_handed_over(work);
        self.settle(work);
    }

    fn tell_handed_over(&self, work: &Work) {
        let ending = Ending { outcome: "handed_over", error: None };
        self.shared.spans.process(work, self.shared.clock.now(), &ending);
    }

    /// Whether nobody else owns the work's partition by now. A redelivery resumes what was started, under the same key.
    fn is_ours(&self, work: &Work) -> bool {
        match work.origin {
            Origin::Partition { epoch } => self.offsets.is_current(&work.record.topic_partition(), epoch),
            Origin::Parked { .. } => true,
        }
    }

    /// From here on nothing new starts for these partitions.
    fn fence(&mut self, partitions: &[TopicPartition]) {
        let gone = |work: &Work| {
            matches!(work.origin, Origin::Partition { .. }) && partitions.contains(&work.record.topic_partition())
        };
        for (work, repeats) in self.lanes.drop_waiting(gone) {
            self.in_hand -= 1 + repeats.len();
            let bytes = size(&work.record) + repeats.iter().map(|repeat| repeat.bytes).sum::<usize>();
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        let (gone, kept): (Vec<Work>, Vec<Work>) = self.ready.drain(..).partition(gone);
        self.ready.extend(kept);
        for work in gone {
            if !matches!(work.stage, Stage::Whole | Stage::Start) {
                self.tell_handed_over(&work);
            }
            self.in_hand -= 1;
            self.bytes = self.bytes.saturating_sub(size(&work.record));
            self.effects.unused(&work, self.shared.clock.now());
            self.leave(work.saga_id(), None);
        }
    }

    /// Lets partitions go once the transaction under way has ended.
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

/// Says of what an earlier version has parked which step it concerns, so that its compensation may overtake it.
async fn label_parked<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>) -> Result<(), StoreError> {
    loop {
        let events = shared.store.unlabelled_parked(shared.options.max_batch).await?;
        if events.is_empty() {
            return Ok(());
        }
        let labels: Vec<ParkedLabel> = events.into_iter().map(|event| label(&shared.participant, event)).collect();
        tracing::info!(events = labels.len(), "events that an earlier version parked are labelled with their steps");
        shared.store.label_parked(&labels).await?;
    }
}

fn label<S: Store>(participant: &Participant<S>, event: ParkedEvent) -> ParkedLabel {
    let ParkedEvent { seq, record, .. } = event;
    let place = format!("{}/{}/{}", record.topic, record.partition, record.offset);
    match read(participant, Arc::new(record), Origin::Parked { seq }) {
        Reading::Event(work) => ParkedLabel { seq, cause: work.envelope.identity(), step: work.name, op: work.op },
        Reading::PassOver | Reading::Poison(_) => {
            ParkedLabel { seq, cause: identity::cause("", &place), step: "", op: Op::Action }
        }
    }
}

fn size(record: &Record) -> usize {
    let headers = record.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Vec::len));
    record.value.as_ref().map_or(0, Vec::len) + headers.sum::<usize>()
}

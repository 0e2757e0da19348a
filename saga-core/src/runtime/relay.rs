//! The outbox relay: publishes committed events at once, remembers what the broker has acknowledged, and sweeps what a
//! crash or a failure left behind.
//!
//! Rules: a row is forgotten only after its delivery report; a saga's events are never reordered; rows are found by
//! what they are (not marked sent), never by a position, so that a transaction that commits late loses nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    Health, Metrics,
    spans::{Sending, Spans},
};
use crate::{
    clock::{Clock, after},
    envelope::{Outgoing, seal},
    event::{Event, EventType},
    handler::Emit,
    outcome::StepError,
    store::{OutboxRow, Store, StoreError},
    trace::TraceContext,
    transport::{Producer, PublishError},
};

/// How often the outbox is swept for rows that nobody is publishing.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Rows younger than this are being published by whoever wrote them.
const GRACE: Duration = Duration::from_secs(2);
/// Acknowledged rows wait this long for a transaction that takes their removal along.
const FORGET_EVERY: Duration = Duration::from_millis(250);
/// Rows published between two looks at the table, so that a long backlog does not fill the memory.
const SWEEP_ROWS: usize = 500;
/// A row that the broker refused is tried again only so often: somebody has to mend its topic or its size.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// The participant's way to publish events that are committed in its database. A clone is the same relay.
pub struct Outbox<S: Store, P: Producer, C: Clock>(Arc<Relay<S, P, C>>);

impl<S: Store, P: Producer, C: Clock> Clone for Outbox<S, P, C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Relay<S, P, C> {
    spans: Spans,
    store: S,
    producer: P,
    clock: C,
    health: Health,
    metrics: Metrics,
    state: Mutex<State>,
    reports: mpsc::UnboundedSender<Report>,
    inbox_of_reports: Mutex<Option<mpsc::UnboundedReceiver<Report>>>,
}

#[derive(Default)]
struct State {
    in_flight: HashMap<Uuid, Sending>,
    acknowledged: Vec<Uuid>,
    /// Rows are left to the sweeper, which keeps their order, until it has caught up.
    behind: bool,
    /// Rows left to the sweeper so far.
    left: u64,
    refused: HashMap<Uuid, Timestamp>,
}

impl State {
    /// Rows are left to the sweeper.
    fn leave(&mut self) {
        self.behind = true;
        self.left += 1;
    }
}

/// What a sweep found.
enum Swept {
    Nothing,
    /// There may be more.
    Some,
    /// The broker did not acknowledge: says why.
    Stuck(String),
}

/// Rows and what became of them.
type Acknowledged = BoxFuture<'static, (Vec<Uuid>, Vec<Result<(), PublishError>>)>;

/// Rows handed to the producer, and the future of their acknowledgement.
struct Report {
    ids: Vec<Uuid>,
    acknowledged: BoxFuture<'static, Vec<Result<(), PublishError>>>,
}

impl<S: Store, P: Producer, C: Clock> Outbox<S, P, C> {
    pub(super) fn new(spans: Spans, store: S, producer: P, clock: C, health: Health, metrics: Metrics) -> Self {
        let (reports, receiver) = mpsc::unbounded_channel();
        Self(Arc::new(Relay {
            spans,
            store,
            producer,
            clock,
            health,
            metrics,
            state: Mutex::default(),
            reports,
            inbox_of_reports: Mutex::new(Some(receiver)),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outbox row of an event that is published outside a step: write it in the transaction that it belongs to, then
    /// tell [`Outbox::committed`]. The event has a new id of its own.
    ///
    /// # Errors
    /// When the event cannot be written as JSON.
    pub fn row<E: Event>(&self, event: &E, trace: &TraceContext) -> Result<OutboxRow, StepError> {
        let (id, created_at) = (Uuid::now_v7(), self.0.clock.now());
        let saga_id = Event::saga_id(event);
        let place = self.0.spans.place(trace, saga_id);
        let outgoing = Outgoing {
            id,
            source: self.participant(),
            saga_id,
            causation_id: None,
            time: created_at,
            trace: self.0.spans.outgoing(&place),
            null_compensation: false,
        };
        let record = seal(EventType::of::<E>(), event.data()?, &outgoing);
        let event_type = E::NAME.to_owned();
        Ok(OutboxRow { id, saga_id, event_type, created_at, record, span: place.ids, link: None })
    }

    /// As [`Outbox::row`], of an event that goes on in its saga's trace, `saga`, and that something else led to, such as a
    /// request: its span is linked to `cause`. When the saga has no trace yet, it goes on in that of the cause.
    ///
    /// # Errors
    /// As [`Outbox::row`].
    pub fn row_because<E: Event>(
        &self,
        event: &E,
        saga: &TraceContext,
        cause: &TraceContext,
    ) -> Result<OutboxRow, StepError> {
        if saga.traceparent.is_none() {
            return self.row(event, cause);
        }
        let row = self.row(event, saga)?;
        Ok(OutboxRow { link: cause.traceparent.is_some().then(|| cause.clone()), ..row })
    }

    /// Publishes rows whose transaction has committed, without waiting. Call it in the order of the commits.
    pub fn committed(&self, rows: Vec<OutboxRow>) {
        if rows.is_empty() {
            return;
        }
        let mut state = self.state();
        if state.behind || self.0.producer.room() < rows.len() {
            state.leave();
            return;
        }
        self.hand_over(&mut state, rows);
    }

    /// The rows of a transaction whose commit may or may not have happened: the sweeper finds out.
    pub(super) fn perhaps_committed(&self) {
        self.state().leave();
    }

    fn hand_over(&self, state: &mut State, rows: Vec<OutboxRow>) {
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let now = self.0.clock.now();
        state.in_flight.extend(rows.iter().map(|row| (row.id, Sending::of(row, now))));
        // Under the lock, so that rows reach the producer in the order in which they were handed to us.
        let acknowledged = self.0.producer.publish(rows.into_iter().map(|row| row.record).collect());
        let _ = self.0.reports.send(Report { ids, acknowledged });
    }

    /// Acknowledged rows, to be forgotten in a transaction that happens anyway.
    pub(super) fn take_acknowledged(&self) -> Vec<Uuid> {
        std::mem::take(&mut self.state().acknowledged)
    }

    /// That transaction did not happen.
    pub(super) fn put_back(&self, ids: Vec<Uuid>) {
        self.state().acknowledged.extend(ids);
    }

    pub(super) fn producer(&self) -> &P {
        &self.0.producer
    }

    pub(super) fn spans(&self) -> &Spans {
        &self.0.spans
    }

    pub(super) fn participant(&self) -> &'static str {
        self.0.spans.participant()
    }

    fn settle(&self, ids: &[Uuid], results: &[Result<(), PublishError>]) {
        let now = self.0.clock.now();
        let mut state = self.state();
        for (id, result) in ids.iter().zip(results) {
            let Some(sending) = state.in_flight.remove(id) else { continue };
            match result {
                Ok(()) => {
                    self.0.metrics.published.inc();
                    let took = now.duration_since(sending.created_at).as_secs_f64();
                    self.0.metrics.relay_seconds.observe(took.max(0.0));
                    self.0.spans.sent(*id, sending, now, None);
                    state.acknowledged.push(*id);
                }
                Err(PublishError::Refused(why)) => {
                    let _lines = sending.lines().entered();
                    tracing::error!(event_id = %id, why, "the broker refuses an event; it stays in the outbox and is tried again");
                    state.refused.insert(*id, after(now, REFUSED_PAUSE));
                    self.0.spans.sent(*id, sending, now, Some(why.clone()));
                }
                Err(error) => {
                    let _lines = sending.lines().entered();
                    tracing::warn!(event_id = %id, %error, "an event was not acknowledged; the outbox is swept");
                    state.leave();
                }
            }
        }
    }

    /// Publishes, waits, and remembers.
    async fn sweep(&self, before: Timestamp) -> Result<Swept, StoreError> {
        let now = self.0.clock.now();
        // Asked of the database, not filtered afterwards: a page full of rows that are on their way already would look
        // as if nothing else were left.
        let known: Vec<Uuid> = {
            let mut state = self.state();
            state.refused.retain(|_, until| *until > now);
            state.in_flight.keys().chain(state.refused.keys()).chain(&state.acknowledged).copied().collect()
        };
        let rows = self.0.store.unsent(before, &known, SWEEP_ROWS).await?;
        if rows.is_empty() {
            return Ok(Swept::Nothing);
        }
        let rows: Vec<OutboxRow> = {
            let mut state = self.state();
            // Handed over meanwhile by whoever committed it.
            let rows: Vec<_> = rows.into_iter().filter(|row| !state.in_flight.contains_key(&row.id)).collect();
            state.in_flight.extend(rows.iter().map(|row| (row.id, Sending::of(row, now))));
            rows
        };
        tracing::info!(rows = rows.len(), "publishing events that were left in the outbox");
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let results = self.0.producer.publish(rows.into_iter().map(|row| row.record).collect()).await;
        let unacknowledged = results.iter().find_map(|result| match result {
            Err(error @ (PublishError::Full | PublishError::Unacknowledged(_))) => Some(error.to_string()),
            _ => None,
        });
        self.settle(&ids, &results);
        let acknowledged = self.take_acknowledged();
        if let Err(error) = self.0.store.mark_sent(&acknowledged).await {
            self.put_back(acknowledged);
            return Err(error);
        }
        Ok(unacknowledged.map_or(Swept::Some, Swept::Stuck))
    }

    /// Publishes everything that is in the outbox and that nobody here is publishing: before a new owner of a partition
    /// handles its first event, so that it does not overtake what the old one committed.
    ///
    /// Rows that the broker does not take are left to the sweeper, and so is everything that comes after them.
    pub(super) async fn recover(&self) -> Result<(), StoreError> {
        // A moment that stays: other processes of this participant go on writing rows, which they publish themselves.
        self.sweep_all(after(self.0.clock.now(), Duration::from_secs(1))).await?;
        // Written by somebody whose clock is ahead.
        self.sweep(Timestamp::MAX).await?;
        Ok(())
    }

    async fn sweep_all(&self, before: Timestamp) -> Result<(), StoreError> {
        loop {
            match self.sweep(before).await? {
                Swept::Some => {}
                Swept::Nothing => {
                    self.0.health.set_waiting("outbox", None);
                    return Ok(());
                }
                Swept::Stuck(why) => {
                    self.0.health.set_waiting("outbox", Some(why));
                    return Ok(());
                }
            }
        }
    }

    /// Runs until `stop` completes and then until everything in flight is acknowledged; the caller bounds the time.
    pub(super) async fn run(&self, stop: impl Future<Output = ()>) {
        let receiver = self.0.inbox_of_reports.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut reports) = receiver else { return };
        let mut waiting = FuturesUnordered::<Acknowledged>::new();
        let mut stop = std::pin::pin!(stop);
        let mut stopping = false;
        let mut sweep_at = self.0.clock.now();
        let mut background: std::pin::Pin<Box<dyn Future<Output = ()>>> = Box::pin(futures::future::pending());
        let mut busy = false;
        loop {
            if stopping && waiting.is_empty() && reports.is_empty() && !busy {
                break;
            }
            if !busy && !stopping {
                // The clock may have been set back.
                sweep_at = sweep_at.min(after(self.0.clock.now(), SWEEP_EVERY));
                let sweep_now = self.0.clock.now() >= sweep_at;
                if sweep_now {
                    sweep_at = after(self.0.clock.now(), SWEEP_EVERY);
                }
                background = Box::pin(self.housekeeping(sweep_now));
                busy = true;
            }
            tokio::select! {
                biased;
                () = &mut stop, if !stopping => stopping = true,
                Some((ids, results)) = waiting.next(), if !waiting.is_empty() => self.settle(&ids, &results),
                Some(Report { ids, acknowledged }) = reports.recv() => {
                    waiting.push(Box::pin(async move { (ids, acknowledged.await) }));
                }
                () = &mut background, if busy => {
                    busy = false;
                    background = Box::pin(futures::future::pending());
                }
            }
        }
        let acknowledged = self.take_acknowledged();
        if let Err(error) = self.0.store.mark_sent(&acknowledged).await {
            tracing::warn!(%error, "acknowledged events stay in the outbox and will be published again");
        }
    }

    /// One round: forget what is acknowledged, catch up when behind, sweep when it is time, and wait a little.
    async fn housekeeping(&self, sweep_now: bool) {
        let acknowledged = self.take_acknowledged();
        let mut result = match acknowledged.is_empty() {
            true => Ok(()),
            false => match self.0.store.mark_sent(&acknowledged).await {
                Ok(()) => Ok(()),
                Err(error) => {
                    self.put_back(acknowledged);
                    Err(error)
                }
            },
        };
        let (behind, left) = {
            let state = self.state();
            (state.behind, state.left)
        };
        if result.is_ok() && behind {
            result = self.recover().await;
            // Nothing came while we looked at an empty table: from here on rows are published directly again.
            let mut state = self.state();
            if result.is_ok() && state.left == left {
                state.behind = false;
            }
        } else if result.is_ok() && sweep_now {
            let before = self.0.clock.now().checked_sub(GRACE).unwrap_or(Timestamp::MIN);
            result = self.sweep_all(before).await;
        }
        if let Err(error) = result {
            tracing::debug!(%error, "the outbox cannot be swept now");
            self.0.health.set_waiting("outbox", Some(error.to_string()));
            self.0.clock.sleep(SWEEP_EVERY).await;
        }
        self.0.clock.sleep(FORGET_EVERY).await;
    }
}

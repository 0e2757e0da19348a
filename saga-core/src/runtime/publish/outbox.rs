//! The outbox: publishes committed events at once, and deletes rows that the broker has acknowledged. The sweeper finds what a
//! crash or a failure left in the table.
//!
//! A row is deleted only after its delivery report. A saga's events keep their order. Only the rows of one saga wait for the
//! broker, not those of others. Each sweep begins at the beginning of the table, so that a transaction that commits late loses
//! nothing.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, join, ready, select},
    stream::FuturesUnordered,
};
use tokio::{
    sync::{Notify, mpsc},
    task::unconstrained,
};
use uuid::Uuid;

use super::backlog::Backlog;
use crate::runtime::{Health, Metrics, telemetry::spans::Spans};
use crate::{
    Namespace,
    clock::{Clock, after},
    envelope::{Outgoing, seal},
    event::{Event, EventType, SagaId},
    handler::Emitted,
    outcome::StepError,
    store::{OutboxRow, Store, StoreError},
    trace::TraceContext,
    transport::{Producer, PublishError},
};

/// How often the table is swept for rows that are not known here.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long acknowledged rows wait for a transaction that deletes them along with its own writes.
pub(crate) const FORGET_EVERY: Duration = Duration::from_millis(250);
/// The pause before a refused row is tried again: an operator has to mend its topic or its size.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// Publishes the events that are committed in a participant's database. A clone is the same outbox.
pub struct Outbox<S: Store, P: Producer, C: Clock>(pub(crate) Arc<Inner<S, P, C>>);

impl<S: Store, P: Producer, C: Clock> Clone for Outbox<S, P, C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(crate) struct Inner<S, P, C> {
    pub(crate) spans: Spans,
    pub(crate) namespace: Namespace,
    pub(crate) store: S,
    pub(crate) producer: P,
    pub(crate) clock: C,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) state: Mutex<Backlog>,
    /// Notified when something is left to a sweep.
    pub(crate) left: Notify,
    /// Notified when the producer has one row less.
    pub(crate) returned: Notify,
    pub(crate) reports: mpsc::UnboundedSender<Report>,
    pub(crate) inbox_of_reports: Mutex<Option<mpsc::UnboundedReceiver<Report>>>,
}

/// A row that the producer has, and the future of its acknowledgement.
pub(crate) struct Report {
    id: Uuid,
    saga_id: SagaId,
    acknowledged: BoxFuture<'static, Vec<Result<(), PublishError>>>,
}

/// An [`Outbox`] whatever its database, its transport and its clock are.
pub trait AnyOutbox: Send + Sync {
    /// The row of an event that is published outside a step. The event has a new id of its own.
    fn row(&self, event: EventType, data: Vec<u8>, saga: SagaId, trace: &TraceContext) -> OutboxRow;

    /// Publishes rows whose transaction has committed, without waiting. Call it in the order of the commits.
    fn committed(&self, rows: Vec<OutboxRow>);

    /// Leaves the rows of a transaction whose result is unknown to a sweep, which finds them if it committed.
    fn perhaps_committed(&self, rows: &[OutboxRow]);
}

impl<S: Store, P: Producer, C: Clock> AnyOutbox for Outbox<S, P, C> {
    fn row(&self, event: EventType, data: Vec<u8>, saga_id: SagaId, trace: &TraceContext) -> OutboxRow {
        let (id, created_at) = (Uuid::now_v7(), self.0.clock.now());
        let span = self.0.spans.new_span(trace, saga_id);
        let outgoing = Outgoing {
            id,
            source: self.participant(),
            saga_id,
            causation_id: None,
            time: created_at,
            trace: self.0.spans.outgoing(&span),
            null_compensation: false,
        };
        let record = self.0.namespace.place(seal(event, data, &outgoing));
        OutboxRow { id, saga_id, event_type: event.name.to_owned(), created_at, record, span: span.ids, link: None }
    }

    fn committed(&self, rows: Vec<OutboxRow>) {
        Outbox::committed(self, rows);
    }

    fn perhaps_committed(&self, rows: &[OutboxRow]) {
        Outbox::perhaps_committed(self, rows);
    }
}

impl<S: Store, P: Producer, C: Clock> Outbox<S, P, C> {
    pub(crate) fn new(
        spans: Spans,
        namespace: Namespace,
        store: S,
        producer: P,
        clock: C,
        health: Health,
        metrics: Metrics,
    ) -> Self {
        let (reports, receiver) = mpsc::unbounded_channel();
        Self(Arc::new(Inner {
            spans,
            namespace,
            store,
            producer,
            clock,
            health,
            metrics,
            state: Mutex::new(Backlog::new()),
            left: Notify::new(),
            returned: Notify::new(),
            reports,
            inbox_of_reports: Mutex::new(Some(receiver)),
        }))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, Backlog> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outbox row of an event that is published outside a step: write it in the transaction that it belongs to, then
    /// call [`Outbox::committed`]. The event has a new id of its own.
    ///
    /// # Errors
    /// When the event cannot be written as JSON.
    pub fn row<E: Event>(&self, event: &E, trace: &TraceContext) -> Result<OutboxRow, StepError> {
        Ok(AnyOutbox::row(self, EventType::of::<E>(), Emitted::of(event)?.data, Event::saga_id(event), trace))
    }

    /// Publishes rows whose transaction has committed, without waiting. Call it in the order of the commits.
    pub fn committed(&self, rows: Vec<OutboxRow>) {
        let mut state = self.state();
        let mut handed = None;
        for row in rows {
            let saga_id = row.saga_id;
            if handed == Some(saga_id) {
                state.follow(saga_id, [row]);
            } else if state.is_next(&row) && self.room(&state) > 0 {
                handed = self.hand_over(&mut state, row).then_some(saga_id);
            } else {
                state.leave(saga_id);
            }
        }
        self.notify_sweeper(&state);
    }

    /// Leaves the rows of a transaction whose result is unknown to a sweep, which finds them if it committed.
    pub(crate) fn perhaps_committed(&self, rows: &[OutboxRow]) {
        rows.iter().for_each(|row| self.look_for(row.saga_id));
    }

    /// Leaves a saga to a sweep, because it may have a row in the table that is not known here. Later rows go out behind that.
    pub(crate) fn look_for(&self, saga_id: SagaId) {
        let mut state = self.state();
        state.leave(saga_id);
        self.notify_sweeper(&state);
    }

    /// Leaves all sagas to a sweep, because another process may have committed rows of them.
    pub(crate) fn look_for_all(&self) {
        let mut state = self.state();
        state.leave_everyone();
        self.notify_sweeper(&state);
    }

    fn notify_sweeper(&self, state: &Backlog) {
        if state.something_is_left() {
            self.0.left.notify_one();
        }
    }

    pub(crate) fn room(&self, state: &Backlog) -> usize {
        state.room().min(self.0.producer.room())
    }

    /// Hands a row to the producer. Returns false when its queue is full.
    pub(crate) fn hand_over(&self, state: &mut Backlog, row: OutboxRow) -> bool {
        state.handed(&row, self.0.clock.now());
        let (id, saga_id) = (row.id, row.saga_id);
        let mut acknowledged = self.0.producer.publish(vec![row.record]);
        // A full queue answers at once, however long this task has run since it yielded.
        let acknowledged = match unconstrained(&mut acknowledged).now_or_never() {
            Some(results) if results.contains(&Err(PublishError::Full)) => {
                return self.settle(state, id, saga_id, results);
            }
            Some(results) => ready(results).boxed(),
            None => acknowledged,
        };
        let _ = self.0.reports.send(Report { id, saga_id, acknowledged });
        true
    }

    /// Handles a delivery report. Returns false when the row is left to a sweep.
    fn settle(
        &self,
        state: &mut Backlog,
        id: Uuid,
        saga_id: SagaId,
        mut results: Vec<Result<(), PublishError>>,
    ) -> bool {
        let Some((sending, behind)) = state.returned(id, saga_id) else { return true };
        self.0.returned.notify_one();
        let now = self.0.clock.now();
        match results.pop() {
            Some(Ok(())) => {
                self.0.metrics.published.inc();
                let took = now.duration_since(sending.created_at).as_secs_f64();
                self.0.metrics.relay_seconds.observe(took.max(0.0));
                self.0.spans.sent(id, sending, now, None);
                state.acknowledged(id);
                self.hand_over_behind(state, behind);
                return true;
            }
            Some(Err(PublishError::Refused(why))) => {
                let _lines = sending.lines().entered();
                tracing::error!(event_id = %id, why, "the broker refuses an event; the outbox keeps it and tries again");
                state.refused(id, &why, after(now, REFUSED_PAUSE));
                self.0.spans.sent(id, sending, now, Some(why));
                self.hand_over_behind(state, behind);
                return true;
            }
            Some(Err(PublishError::Full)) => {}
            Some(Err(error @ PublishError::Unacknowledged(_))) => {
                let _lines = sending.lines().entered();
                if state.not_acknowledged(error.to_string()) {
                    tracing::warn!(event_id = %id, %error, "an event was not acknowledged; the outbox keeps it, and others like it, and publishes them again");
                }
            }
            None => {}
        }
        state.leave(saga_id);
        self.notify_sweeper(state);
        false
    }

    /// Hands over the first of these rows of one saga, and keeps those behind it, unless a sweep has to find an earlier one.
    fn hand_over_behind(&self, state: &mut Backlog, mut rows: VecDeque<OutboxRow>) {
        let Some(row) = rows.pop_front() else { return };
        let saga_id = row.saga_id;
        let is_handed = state.is_next(&row) && self.room(state) > 0 && self.hand_over(state, row);
        if !is_handed || !state.follow(saga_id, rows) {
            state.leave(saga_id);
            self.notify_sweeper(state);
        }
    }

    /// Takes the acknowledged rows, to be deleted in a transaction. Report its result with `put_back` or `forgotten`.
    pub(crate) fn take_acknowledged(&self) -> Vec<Uuid> {
        self.state().take_acknowledged()
    }

    /// The transaction failed: the rows are still there.
    pub(crate) fn put_back(&self, ids: &[Uuid]) {
        self.state().put_back(ids);
    }

    /// The transaction committed: the rows are gone.
    pub(crate) fn forgotten(&self, ids: &[Uuid]) {
        self.state().forgotten(ids);
    }

    pub(crate) fn producer(&self) -> &P {
        &self.0.producer
    }

    pub(crate) fn spans(&self) -> &Spans {
        &self.0.spans
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    pub(crate) fn participant(&self) -> &'static str {
        self.0.spans.participant()
    }

    /// Runs until `stop` completes and then until everything that the producer has is acknowledged; the caller bounds the time.
    pub(crate) async fn run(&self, stop: impl Future<Output = ()>) {
        let receiver = self.0.inbox_of_reports.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(reports) = receiver else { return };
        let mut reporting = pin!(join(self.read_reports(reports), self.forget()));
        {
            let sweeping = pin!(self.sweeps());
            select(pin!(stop), select(reporting.as_mut(), sweeping)).await;
        }
        let idle = async {
            while !self.state().is_idle() {
                self.0.returned.notified().await;
            }
        };
        select(pin!(idle), reporting).await;
        if let Err(error) = self.mark_sent().await {
            tracing::warn!(%error, "acknowledged events stay in the outbox and will be published again");
        }
    }

    async fn read_reports(&self, mut reports: mpsc::UnboundedReceiver<Report>) {
        let mut waiting = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some((id, saga_id, results)) = waiting.next(), if !waiting.is_empty() => {
                    self.settle(&mut self.state(), id, saga_id, results);
                }
                Some(Report { id, saga_id, acknowledged }) = reports.recv() => {
                    waiting.push(async move { (id, saga_id, acknowledged.await) });
                }
            }
        }
    }

    /// Deletes acknowledged rows that no other transaction deleted.
    async fn forget(&self) {
        loop {
            self.0.clock.sleep(FORGET_EVERY).await;
            if let Err(error) = self.mark_sent().await {
                tracing::debug!(%error, "acknowledged events cannot be deleted from the outbox now");
                self.0.clock.sleep(SWEEP_EVERY).await;
            }
        }
    }

    async fn mark_sent(&self) -> Result<(), StoreError> {
        let ids = self.take_acknowledged();
        if ids.is_empty() {
            return Ok(());
        }
        let result = self.0.store.mark_sent(&ids).await;
        match result {
            Ok(()) => self.forgotten(&ids),
            Err(_) => self.put_back(&ids),
        }
        result
    }
}

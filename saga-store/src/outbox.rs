//! Publishing events outside a step, for example on a request: in one transaction with the rows they report, and in the
//! order of the commits.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    ops::Deref,
    sync::Arc,
};

use saga_core::{
    Event, StepError,
    event::EventType,
    handler::Emitted,
    runtime::AnyOutbox,
    store::{Changes, OutboxRow, Store, StoreError},
    trace::TraceContext,
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{Db, Tx, db::TRIES};

/// Number of locks that all sagas share.
const LOCKS: usize = 1024;

/// Publishes events outside any step, in one transaction with the rows that they report, and in the order of the
/// commits.
///
/// ```
/// # use saga_core::{Event, SagaId, StepError, trace::TraceContext};
/// # use saga_store::{Outbox, params};
/// # use schemars::JsonSchema; use serde::{Deserialize, Serialize}; use uuid::Uuid;
/// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
/// # #[event(name = "trip.requested", topic = "trip.events", saga = "trip_id")]
/// # struct Requested { trip_id: Uuid }
/// async fn request(outbox: &Outbox, trace: &TraceContext) -> Result<Uuid, StepError> {
///     let trip = Requested { trip_id: Uuid::new_v4() };
///     outbox
///         .transaction(trace, async |mut tx| {
///             tx.execute("INSERT INTO trip (trip_id) VALUES ($1)", params![trip.trip_id]).await?;
///             tx.publish(&trip)?;
///             Ok::<_, StepError>((tx, trip.trip_id))
///         })
///         .await
/// }
/// ```
#[derive(Clone)]
pub struct Outbox {
    db: Db,
    relay: Arc<dyn AnyOutbox>,
    /// Locks by saga, held from before a commit until its events are handed over: a saga's events leave in the order of
    /// their commits.
    turns: Arc<Turns>,
}

struct Turns {
    locks: Vec<Arc<Mutex<()>>>,
    hash: RandomState,
}

/// A [`Tx`] that can also publish.
pub struct Publishing {
    tx: Tx,
    relay: Arc<dyn AnyOutbox>,
    trace: TraceContext,
    rows: Vec<OutboxRow>,
}

impl Deref for Publishing {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl Publishing {
    /// Publishes the event with the commit of the transaction. It gets a new id and continues the request's trace.
    /// Returns the event as it is written.
    ///
    /// # Errors
    /// When the event cannot be written as JSON.
    pub fn publish<E: Event>(&mut self, event: &E) -> Result<&OutboxRow, StepError> {
        let row = self.relay.row(EventType::of::<E>(), Emitted::of(event)?.data, Event::saga_id(event), &self.trace);
        Ok(self.push(row))
    }

    /// As [`Publishing::publish`], in the saga's own trace; the event's span is linked to the request.
    ///
    /// # Errors
    /// As [`Publishing::publish`].
    pub fn publish_in<E: Event>(&mut self, event: &E, saga: &TraceContext) -> Result<&OutboxRow, StepError> {
        if saga.traceparent.is_none() {
            return self.publish(event);
        }
        let row = self.relay.row(EventType::of::<E>(), Emitted::of(event)?.data, Event::saga_id(event), saga);
        let link = self.trace.traceparent.is_some().then(|| self.trace.clone());
        Ok(self.push(OutboxRow { link, ..row }))
    }

    fn push(&mut self, row: OutboxRow) -> &OutboxRow {
        self.rows.push(row);
        &self.rows[self.rows.len() - 1]
    }
}

impl Outbox {
    /// An outbox on this database, whose events `relay` publishes.
    pub fn new(db: Db, relay: impl AnyOutbox + 'static) -> Self {
        let locks = (0..LOCKS).map(|_| Arc::default()).collect();
        Self { db, relay: Arc::new(relay), turns: Arc::new(Turns { locks, hash: RandomState::new() }) }
    }

    /// Runs `work` in a transaction, then commits the transaction that `work` returns; its events leave at once. After
    /// a conflict with another transaction `work` runs again, so it must have no effects outside the transaction. A
    /// commit that has begun finishes even if its caller is gone. Needs a tokio runtime.
    ///
    /// # Errors
    /// What `work` returned, after a rollback; or why the transaction could not begin or be committed. After
    /// [`StoreError::Unavailable`] it may have been committed or not; when it was, its events are published.
    pub async fn transaction<T, E, F, Work>(&self, trace: &TraceContext, work: F) -> Result<T, E>
    where
        E: From<StoreError>,
        F: Fn(Publishing) -> Work,
        Work: Future<Output = Result<(Publishing, T), E>>,
    {
        let mut tries = 1;
        loop {
            let tx = self.db.begin_plain().await?;
            let failure = tx.failure.clone();
            let publishing = Publishing { tx, relay: self.relay.clone(), trace: trace.clone(), rows: Vec::new() };
            let done = match work(publishing).await {
                Ok((done, value)) => {
                    let committed = self.commit(done).await;
                    failure.note(committed).map(|()| value).map_err(E::from)
                }
                Err(error) => Err(error),
            };
            if done.is_ok() || !failure.is_conflict() || tries == TRIES {
                return done;
            }
            tries += 1;
        }
    }

    async fn commit(&self, done: Publishing) -> Result<(), StoreError> {
        let Publishing { tx, relay, rows, .. } = done;
        if rows.is_empty() {
            return self.db.commit(tx, Changes::default()).await.map(|_| ());
        }
        // Deferred writes wait for row locks, which is over before the sagas' locks are taken.
        tx.flush().await?;
        // A transaction that waits for a saga's lock holds nothing that the lock's owner needs for its COMMIT.
        let turn = self.turns.of(&rows).await;
        let db = self.db.clone();
        // A task of its own: a request that is cancelled must not cancel its commit or what follows it.
        let commit = tokio::spawn(async move {
            let changes = Changes { outbox: rows.clone(), ..Changes::default() };
            let committed = db.commit(tx, changes).await;
            match &committed {
                Ok(_) => relay.committed(rows),
                Err(StoreError::Unavailable(_)) => relay.perhaps_committed(&rows),
                Err(_) => {}
            }
            drop(turn);
            committed.map(|_| ())
        });
        commit.await.unwrap_or_else(|error| Err(StoreError::Unavailable(format!("the commit was broken off: {error}"))))
    }
}

impl Turns {
    /// Takes each lock once, and all in one order.
    async fn of(&self, rows: &[OutboxRow]) -> Vec<OwnedMutexGuard<()>> {
        #[allow(clippy::cast_possible_truncation, reason = "the remainder is small")]
        let lock = |row: &OutboxRow| (self.hash.hash_one(row.saga_id) % LOCKS as u64) as usize;
        let mut turn = Vec::new();
        for place in rows.iter().map(lock).collect::<BTreeSet<_>>() {
            turn.push(self.locks[place].clone().lock_owned().await);
        }
        turn
    }
}

//! A participant's database on PostgreSQL or SQLite.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use saga_core::{
    barrier::Before,
    event::SagaId,
    store::{
        Admission, Changes, Committed, DeclaredStep, DueTimer, LockedStep, OutboxRow, ParkedEvent, ParkedLabel, Store,
        StoreError, Summary, Unsent,
    },
};
use uuid::Uuid;

#[cfg(feature = "postgres")]
use crate::postgres::Postgres;
#[cfg(feature = "sqlite")]
use crate::sqlite::Sqlite;
use crate::{
    error::{ConnectError, Misconfigured},
    migrate::Migration,
    row::Row,
    tx::{Session, Tx, at_most_one},
    url::{DatabaseUrl, Location},
    value::Value,
};

/// How often [`Db::transaction`] runs its work when it conflicts with other transactions.
pub(crate) const TRIES: u32 = 10;

/// A participant's database. A clone is another handle on the same one.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

struct Inner {
    schema: String,
    migrations: &'static [Migration],
    prepared: AtomicBool,
    backend: Backend,
}

enum Backend {
    #[cfg(feature = "postgres")]
    Postgres(Postgres),
    #[cfg(feature = "sqlite")]
    Sqlite(Sqlite),
}

/// Evaluates an expression on the database behind a [`Backend`]: both have the same methods.
macro_rules! on {
    ($backend:expr, $database:ident => $call:expr) => {
        match $backend {
            #[cfg(feature = "postgres")]
            Backend::Postgres($database) => $call,
            #[cfg(feature = "sqlite")]
            Backend::Sqlite($database) => $call,
        }
    };
}

impl Db {
    /// Describes a participant's database. Connecting waits for [`Db::prepare`], so that a service can start while its
    /// database is down.
    ///
    /// On PostgreSQL all tables are in the schema `schema`, so that one database serves all participants. On SQLite
    /// each participant has a file of its own, and `schema` only names the participant.
    ///
    /// # Errors
    /// When `schema` cannot be a schema's name.
    pub fn open(url: DatabaseUrl, schema: &str, migrations: &'static [Migration]) -> Result<Self, Misconfigured> {
        // PostgreSQL truncates longer names, and two participants could share one.
        if schema.is_empty() || schema.len() > 63 || schema.contains('\0') || schema.starts_with("pg_") {
            return Err(Misconfigured(format!("{schema:?} cannot be the name of a schema")));
        }
        let backend = match url.0 {
            #[cfg(feature = "postgres")]
            Location::Postgres(url) => Backend::Postgres(Postgres::new(*url, schema)),
            #[cfg(feature = "sqlite")]
            Location::SqliteFile(path) => Backend::Sqlite(Sqlite::file(path)),
            #[cfg(feature = "sqlite")]
            Location::SqliteMemory => Backend::Sqlite(Sqlite::temporary()),
        };
        Ok(Self(Arc::new(Inner { schema: schema.to_owned(), migrations, prepared: AtomicBool::new(false), backend })))
    }

    /// [`Db::open`], then [`Db::prepare`].
    ///
    /// # Errors
    /// As those two.
    pub async fn connect(
        url: DatabaseUrl,
        schema: &str,
        migrations: &'static [Migration],
    ) -> Result<Self, ConnectError> {
        let db = Self::open(url, schema, migrations)?;
        db.prepare().await?;
        Ok(db)
    }

    /// Connects and applies missing migrations: first the framework's, then the participant's. It can be called again
    /// after a failure, and by several processes at once. Until it succeeds, everything else fails with
    /// [`StoreError::Unavailable`].
    ///
    /// # Errors
    /// [`ConnectError::Unavailable`] and [`ConnectError::Full`] are worth another try; the others need somebody to fix
    /// something first.
    pub async fn prepare(&self) -> Result<(), ConnectError> {
        on!(&self.0.backend, database => database.prepare(self.0.migrations).await?);
        self.0.prepared.store(true, Ordering::Release);
        Ok(())
    }

    /// Opens a transaction that admits no event, for programs such as HTTP handlers. End it with [`Store::commit`];
    /// [`Db::transaction`] does all of that.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub async fn begin_plain(&self) -> Result<Tx, StoreError> {
        Ok(Tx::new(on!(self.backend()?, database => database.begin_plain().await?.into())))
    }

    /// Checks that the database answers and, as far as is known, takes writes.
    ///
    /// # Errors
    /// Why it does not, or cannot.
    pub async fn ping(&self) -> Result<(), StoreError> {
        on!(self.backend()?, database => database.ping().await)
    }

    /// Runs `work` in a transaction, then commits the transaction that `work` returns together with its events. After a
    /// conflict with another transaction `work` runs again, so it must have no effects outside the transaction.
    ///
    /// ```
    /// # use saga_store::{Db, params}; use saga_core::store::StoreError;
    /// async fn rename(db: &Db, id: &str, name: &str) -> Result<bool, StoreError> {
    ///     db.transaction(async |tx| {
    ///         let renamed = tx.execute("UPDATE customer SET name = $2 WHERE id = $1", params![id, name]).await?;
    ///         Ok((tx, renamed > 0, Vec::new()))
    ///     })
    ///     .await
    /// }
    /// ```
    ///
    /// # Errors
    /// What `work` returned, after a rollback; or why the transaction could not begin or be committed. After
    /// [`StoreError::Unavailable`] it may have been committed or not.
    pub async fn transaction<T, E, F, Work>(&self, work: F) -> Result<T, E>
    where
        E: From<StoreError>,
        F: Fn(Tx) -> Work,
        Work: Future<Output = Result<(Tx, T, Vec<OutboxRow>), E>>,
    {
        let mut tries = 1;
        loop {
            let tx = self.begin_plain().await?;
            let failure = tx.failure.clone();
            let done = match work(tx).await {
                Ok((tx, value, outbox)) => {
                    let committed = self.commit(tx, Changes { outbox, ..Changes::default() }).await;
                    failure.note(committed).map(|_| value).map_err(E::from)
                }
                Err(error) => Err(error),
            };
            if done.is_ok() || !failure.is_conflict() || tries == TRIES {
                return done;
            }
            tries += 1;
        }
    }

    /// Reads outside a transaction.
    ///
    /// # Errors
    /// As [`Tx::query`].
    pub async fn query(&self, sql: &'static str, params: impl AsRef<[Value]>) -> Result<Vec<Row>, StoreError> {
        on!(self.backend()?, database => database.query(sql, params.as_ref()).await)
    }

    /// Reads at most one row outside a transaction.
    ///
    /// # Errors
    /// As [`Tx::query_opt`].
    pub async fn query_opt(&self, sql: &'static str, params: impl AsRef<[Value]>) -> Result<Option<Row>, StoreError> {
        self.query(sql, params).await.and_then(at_most_one)
    }

    /// The time by the database's clock.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn time(&self) -> Result<Timestamp, StoreError> {
        on!(self.backend()?, database => database.time().await)
    }

    fn backend(&self) -> Result<&Backend, StoreError> {
        if self.0.prepared.load(Ordering::Acquire) {
            Ok(&self.0.backend)
        } else {
            Err(StoreError::Unavailable("the database is not prepared yet".into()))
        }
    }
}

impl Store for Db {
    type Tx = Tx;

    async fn begin(&self, admissions: &[Admission], patience: Duration) -> Result<(Tx, Vec<Before>), StoreError> {
        on!(self.backend()?, database => {
            let (session, before) = database.admit(admissions, patience).await?;
            Ok((Tx::new(session.into()), before))
        })
    }

    async fn commit(&self, tx: Tx, changes: Changes) -> Result<Committed, StoreError> {
        tx.failure.check_at_commit()?;
        #[cfg(feature = "postgres")]
        let writes = tx.take_deferred();
        match tx.session {
            #[cfg(feature = "postgres")]
            Session::Postgres(session) => session.commit(&self.0.schema, &changes, writes).await,
            #[cfg(feature = "sqlite")]
            Session::Sqlite(session) => session.commit(&self.0.schema, &changes),
        }
    }

    async fn claim_parked(
        &self,
        lease: Duration,
        limit: usize,
        resting: &[&str],
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        on!(self.backend()?, database => database.claim_parked(lease, rows(limit), resting).await)
    }

    async fn unlabelled_parked(&self, limit: usize) -> Result<Vec<ParkedEvent>, StoreError> {
        on!(self.backend()?, database => database.unlabelled_parked(rows(limit)).await)
    }

    async fn label_parked(&self, labels: &[ParkedLabel]) -> Result<(), StoreError> {
        on!(self.backend()?, database => database.label_parked(labels).await)
    }

    async fn begin_due(&self, limit: usize, patience: Duration) -> Result<(Tx, Vec<DueTimer>), StoreError> {
        on!(self.backend()?, database => {
            let (session, timers) = database.begin_due(rows(limit), patience).await?;
            Ok((Tx::new(session.into()), timers))
        })
    }

    async fn lock_steps(&self, tx: &mut Tx, steps: &[(SagaId, &str)]) -> Result<Vec<LockedStep>, StoreError> {
        match &tx.session {
            #[cfg(feature = "postgres")]
            Session::Postgres(session) => session.lock_steps(steps).await,
            #[cfg(feature = "sqlite")]
            Session::Sqlite(session) => session.locked(steps),
        }
    }

    async fn postpone(&self, timers: &[DueTimer], after: Duration) -> Result<(), StoreError> {
        on!(self.backend()?, database => database.postpone(timers, after).await)
    }

    async fn unsent(&self, behind: i64, grace: Duration, limit: usize) -> Result<Vec<Unsent>, StoreError> {
        on!(self.backend()?, database => database.unsent(behind, grace, rows(limit)).await)
    }

    async fn outbox(&self, ids: &[Uuid]) -> Result<Vec<OutboxRow>, StoreError> {
        on!(self.backend()?, database => database.outbox(ids).await)
    }

    async fn mark_sent(&self, ids: &[Uuid]) -> Result<(), StoreError> {
        on!(self.backend()?, database => database.mark_sent(ids).await)
    }

    async fn declared_steps(&self) -> Result<Vec<DeclaredStep>, StoreError> {
        on!(self.backend()?, database => database.declared_steps().await)
    }

    async fn declare_steps(&self, steps: &[DeclaredStep]) -> Result<(), StoreError> {
        on!(self.backend()?, database => database.declare_steps(steps).await)
    }

    async fn sagas_of_step(&self, step: &str) -> Result<u64, StoreError> {
        on!(self.backend()?, database => database.sagas_of_step(step).await)
    }

    async fn summary(&self) -> Result<Summary, StoreError> {
        on!(self.backend()?, database => database.summary().await)
    }
}

/// A limit as SQL's number.
fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

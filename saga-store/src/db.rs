//! A participant's database, on either of the two.

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
    store::{
        Admission, Changes, Committed, DeclaredStep, DueTimer, OutboxRow, ParkedEvent, ParkedLabel, Store, StoreError,
        Summary, Unsent,
    },
};
use uuid::Uuid;

use crate::{
    error::{ConnectError, Misconfigured},
    migrate::Migration,
    postgres::Postgres,
    row::Row,
    sqlite::Sqlite,
    tx::{Session, Tx, at_most_one},
    url::{DatabaseUrl, Place},
    value::Value,
};

/// How often [`Db::transaction`] runs its work when it conflicts with others.
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
    Postgres(Postgres),
    Sqlite(Sqlite),
}

impl Db {
    /// Describes the database of a participant. Nothing is opened or connected before [`Db::prepare`], so that a service
    /// can start while its database is down.
    ///
    /// On PostgreSQL all tables live in the schema `schema`, so that one database serves all participants; on SQLite
    /// each participant has a file of its own, and `schema` only names the participant.
    ///
    /// # Errors
    /// When `schema` cannot be the name of a schema.
    pub fn open(url: DatabaseUrl, schema: &str, migrations: &'static [Migration]) -> Result<Self, Misconfigured> {
        // PostgreSQL cuts longer names off, and two participants might become one.
        if schema.is_empty() || schema.len() > 63 || schema.contains('\0') || schema.starts_with("pg_") {
            return Err(Misconfigured(format!("{schema:?} cannot be the name of a schema")));
        }
        let backend = match url.0 {
            Place::Postgres(url) => Backend::Postgres(Postgres::new(*url, schema)),
            Place::SqliteFile(path) => Backend::Sqlite(Sqlite::file(path)),
            Place::SqliteMemory => Backend::Sqlite(Sqlite::temporary()),
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

    /// Connects, and applies what migrations are missing: the framework's own first, then the participant's. Can be called
    /// again, also after a failure, and by several processes at once. Until it has succeeded, everything else fails
    /// with [`StoreError::Unavailable`].
    ///
    /// # Errors
    /// [`ConnectError::Unavailable`] when another try may succeed, the others when somebody must mend something first.
    pub async fn prepare(&self) -> Result<(), ConnectError> {
        match &self.0.backend {
            Backend::Postgres(postgres) => postgres.prepare(self.0.migrations).await?,
            Backend::Sqlite(sqlite) => sqlite.prepare(self.0.migrations).await?,
        }
        self.0.prepared.store(true, Ordering::Release);
        Ok(())
    }

    /// Opens a transaction that admits no event, for programs such as HTTP handlers. End it with [`Store::commit`];
    /// [`Db::transaction`] does all of that.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub async fn begin_plain(&self) -> Result<Tx, StoreError> {
        Ok(Tx::new(match self.backend()? {
            Backend::Postgres(postgres) => Session::Postgres(Box::new(postgres.begin().await?)),
            Backend::Sqlite(sqlite) => Session::Sqlite(sqlite.begin_soon().await?),
        }))
    }

    /// Whether the database answers, and can be written to as far as is known.
    ///
    /// # Errors
    /// Why it does not, or cannot.
    pub async fn ping(&self) -> Result<(), StoreError> {
        if let Backend::Sqlite(sqlite) = self.backend()?
            && sqlite.is_locked()
        {
            // Dropped, it is rolled back.
            sqlite.begin_soon().await?;
        }
        self.query("SELECT 1", []).await.map(|_| ())
    }

    /// Runs `work` in a transaction, and commits the transaction that `work` hands back together with its events. When it
    /// conflicts with another transaction it is run again, so that `work` must do nothing outside of the transaction.
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
        match self.backend()? {
            Backend::Postgres(postgres) => postgres.query(sql, params.as_ref()).await,
            Backend::Sqlite(sqlite) => sqlite.query(sql, params.as_ref()),
        }
    }

    /// Reads at most one row outside a transaction.
    ///
    /// # Errors
    /// As [`Tx::query_opt`].
    pub async fn query_opt(&self, sql: &'static str, params: impl AsRef<[Value]>) -> Result<Option<Row>, StoreError> {
        self.query(sql, params).await.and_then(at_most_one)
    }

    /// What time it is by the database's clock.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn time(&self) -> Result<Timestamp, StoreError> {
        match self.backend()? {
            Backend::Postgres(postgres) => postgres.time().await,
            Backend::Sqlite(sqlite) => Ok(sqlite.time()),
        }
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
        match self.backend()? {
            Backend::Postgres(postgres) => {
                let (session, before) = postgres.admit(admissions, patience).await?;
                Ok((Tx::new(Session::Postgres(Box::new(session))), before))
            }
            Backend::Sqlite(sqlite) => {
                let (session, before) = sqlite.admit(admissions).await?;
                Ok((Tx::new(Session::Sqlite(session)), before))
            }
        }
    }

    async fn commit(&self, tx: Tx, changes: Changes) -> Result<Committed, StoreError> {
        tx.failure.check_at_commit()?;
        let writes = tx.take_deferred();
        match tx.session {
            Session::Postgres(session) => session.commit(&self.0.schema, &changes, writes).await,
            Session::Sqlite(session) => session.commit(&self.0.schema, &changes),
        }
    }

    async fn claim_parked(
        &self,
        lease: Duration,
        limit: usize,
        resting: &[&str],
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        match self.backend()? {
            Backend::Postgres(postgres) => postgres.claim_parked(lease, rows(limit), resting).await,
            Backend::Sqlite(sqlite) => sqlite.claim_parked(lease, rows(limit), resting).await,
        }
    }

    async fn unlabelled_parked(&self, limit: usize) -> Result<Vec<ParkedEvent>, StoreError> {
        match self.backend()? {
            Backend::Postgres(postgres) => postgres.unlabelled_parked(rows(limit)).await,
            Backend::Sqlite(sqlite) => sqlite.unlabelled_parked(rows(limit)),
        }
    }

    async fn label_parked(&self, labels: &[ParkedLabel]) -> Result<(), StoreError> {
        match self.backend()? {
            Backend::Postgres(postgres) => postgres.label_parked(labels).await,
            Backend::Sqlite(sqlite) => sqlite.label_parked(labels).await,
        }
    }

    async fn begin_due(&self, limit: usize, patience: Duration) -> Result<(Tx, Vec<DueTimer>), StoreError> {
        match self.backend()? {
            Backend::Postgres(postgres) => {
                let (session, timers) = postgres.begin_due(rows(limit), patience).await?;
                Ok((Tx::new(Session::Postgres(Box::new(session))), timers))
            }
            Backend::Sqlite(sqlite) => {
                let (session, timers) = sqlite.begin_due(rows(limit)).await?;
                Ok((Tx::new(Session::Sqlite(session)), timers))
            }
        }
    }

    async fn postpone(&self, timers: &[DueTimer], after: Duration) -> Result<(), StoreError> {
        match self.backend()? {
            Backend::Postgres(postgres) => postgres.postpone(timers, after).await,
            Backend::Sqlite(sqlite) => sqlite.postpone(timers, after).await,
        }
    }

    async fn next_due(&self) -> Result<Option<Duration>, StoreError> {
        match self.backend()? {
            Backend::Postgres(postgres) => postgres.next_due().await,
            Backend::Sqlite(sqlite) => sqlite.next_due(),
        }
    }

    async fn unsent(&self, behind: i64, grace: Duration, limit: usize) -> Result<Vec<Unsent>, StoreError> {
        match self.backend()? {
            Backend::Postgres(postgres) => postgres.unsent(behind, grace, rows(limit)).await,
            Backend::Sqlite(sqlite) => sqlite.unsent(behind, grace, rows(limit)),
        }
    }

    async fn outbox(&self, ids: &[Uuid]) -> Result<Vec<OutboxRow>, StoreError> {
        match self.backend()? {
            Backend::Postgres(postgres) => postgres.outbox(ids).await,
            Backend::Sqlite(sqlite) => sqlite.outbox(ids),
        }
    }

    async fn mark_sent(&self, ids: &[Uuid]) -> Result<(), StoreError> {
        match self.backend()? {
            Backend::Postgres(postgres) => postgres.mark_sent(ids).await,
            Backend::Sqlite(sqlite) => sqlite.mark_sent(ids).await,
        }
    }

    async fn declared_steps(&self) -> Result<Vec<DeclaredStep>, StoreError> {
        match self.backend()? {
            Backend::Postgres(postgres) => postgres.declared_steps().await,
            Backend::Sqlite(sqlite) => sqlite.declared_steps(),
        }
    }

    async fn declare_steps(&self, steps: &[DeclaredStep]) -> Result<(), StoreError> {
        match self.backend()? {
            Backend::Postgres(postgres) => postgres.declare_steps(steps).await,
            Backend::Sqlite(sqlite) => sqlite.declare_steps(steps).await,
        }
    }

    async fn sagas_of_step(&self, step: &str) -> Result<u64, StoreError> {
        match self.backend()? {
            Backend::Postgres(postgres) => postgres.sagas_of_step(step).await,
            Backend::Sqlite(sqlite) => sqlite.sagas_of_step(step),
        }
    }

    async fn summary(&self) -> Result<Summary, StoreError> {
        match self.backend()? {
            Backend::Postgres(postgres) => postgres.summary().await,
            Backend::Sqlite(sqlite) => sqlite.summary(),
        }
    }
}

/// A number of rows, as SQL counts them.
fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

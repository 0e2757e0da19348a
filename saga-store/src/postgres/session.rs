//! A connection in use, and the transaction that may be open on it.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, TryFutureExt};
use saga_core::store::StoreError;
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::{Client, Error};

use super::{
    DEADLINE,
    error::{At, Failed, classify_at, spoils_connection},
    pool::{Conn, Lease, Pool, User},
    statement::{self, Prepared},
};
use crate::{
    row::Row,
    sql::{Dialect, Rendered},
    value::{Rows, Value},
};

/// How a transaction is opened.
///
/// BEGIN and the first statements go out together. If BEGIN alone fails (cancelled by an operator, out of memory), the
/// statements after it would run and commit by themselves. So BEGIN sets a mark that ends with the transaction, and
/// those statements do nothing unless `current_setting('saga.tx', true)` is that mark.
pub(super) struct Opening {
    pub(super) sql: String,
    /// Its mark.
    pub(super) tx: String,
}

impl Opening {
    /// READ COMMITTED whatever the server's default: a stronger level would show a transaction that has waited for
    /// another the state before the wait. `patience` is the lock timeout; 0 would mean no limit.
    pub(super) fn new(patience: Duration) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let tx = LAST.fetch_add(1, Ordering::Relaxed).to_string();
        let patience = patience.as_millis().clamp(1, i32::MAX.unsigned_abs().into());
        let sql = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL saga.tx = '{tx}'; SET LOCAL lock_timeout = {patience}"
        );
        Self { sql, tx }
    }
}

/// The error when a transaction's first statements found no mark.
pub(super) fn not_open() -> StoreError {
    StoreError::Unavailable("the transaction was not open when its first statement ran".into())
}

/// A connection in use. Dropping it rolls back, and returns the connection if it is fit for the next use.
pub(crate) struct Session {
    /// None only during `drop`.
    conn: Option<Conn>,
    pool: Arc<Pool>,
    user: User,
    _permit: OwnedSemaphorePermit,
    /// A transaction may be open.
    open: AtomicBool,
    /// Number of exchanges in progress. One that was dropped half-way never ends.
    busy: AtomicUsize,
    spoiled: AtomicBool,
}

impl Session {
    pub(super) fn new(lease: Lease) -> Self {
        let Lease { conn, pool, user, permit } = lease;
        Self {
            conn: Some(conn),
            pool,
            user,
            _permit: permit,
            open: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            spoiled: AtomicBool::new(false),
        }
    }

    fn conn(&self) -> &Conn {
        #[expect(clippy::expect_used, reason = "taken by drop alone")]
        self.conn.as_ref().expect("a session has its connection until it is dropped")
    }

    pub(crate) fn client(&self) -> &Client {
        &self.conn().link.client
    }

    /// Opens a transaction.
    pub(super) async fn open(&self, patience: Duration) -> Result<(), StoreError> {
        self.opened();
        self.exchange(self.client().batch_execute(&Opening::new(patience).sql)).await
    }

    /// Marks that a transaction may be open.
    pub(super) fn opened(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    /// Marks that the transaction is committed.
    pub(super) fn closed(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    /// Waits for the server's answer, with a time limit.
    pub(super) async fn exchange<T, E: Into<Failed>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        let Ok(result) = tokio::time::timeout(DEADLINE, work).await else {
            self.spoiled.store(true, Ordering::Relaxed);
            return Err(StoreError::Unavailable(format!("no answer within {} s", DEADLINE.as_secs())));
        };
        self.busy.fetch_sub(1, Ordering::Relaxed);
        result.map_err(|failed| {
            let Failed { error, at } = failed.into();
            if spoils_connection(&error, at) {
                self.spoiled.store(true, Ordering::Relaxed);
            }
            classify_at(&error, at)
        })
    }

    /// The statement as PostgreSQL has it.
    pub(super) fn rendered(&self, sql: &'static str) -> Result<Arc<Rendered>, StoreError> {
        self.pool.rendered.get(sql, Dialect::Postgres)
    }

    /// The statement, prepared on this connection.
    pub(super) async fn prepared(&self, sql: &'static str) -> Result<Arc<Prepared>, StoreError> {
        let known = self.conn().statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(prepared) = known {
            return Ok(prepared);
        }
        let rendered = self.rendered(sql)?;
        let statement = self.exchange(self.client().prepare(&rendered.sql)).await?;
        let prepared = Arc::new(Prepared::new(statement, rendered));
        self.conn().statements.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, prepared.clone());
        Ok(prepared)
    }

    /// The statement that inserts many rows where `one` inserts one, prepared on this connection.
    pub(super) async fn prepared_many(&self, one: &'static str, sql: &str) -> Result<Arc<Prepared>, StoreError> {
        let known = self.conn().of_many.lock().unwrap_or_else(PoisonError::into_inner).get(one).cloned();
        if let Some(prepared) = known {
            return Ok(prepared);
        }
        let rendered = self.rendered(one)?;
        let statement = self.exchange(self.client().prepare(sql)).await?;
        let prepared = Arc::new(Prepared::new(statement, rendered));
        self.conn().of_many.lock().unwrap_or_else(PoisonError::into_inner).insert(one, prepared.clone());
        Ok(prepared)
    }

    pub(crate) async fn execute(
        &self,
        sql: &'static str,
        rows: Option<&Rows>,
        params: &[Value],
    ) -> Result<u64, StoreError> {
        let prepared = self.prepared(sql).await?;
        let params = statement::bind(&prepared, rows, params)?;
        self.exchange(self.client().execute(&prepared.statement, &statement::refs(&params)).map_err(handlers)).await
    }

    pub(crate) async fn query(
        &self,
        sql: &'static str,
        rows: Option<&Rows>,
        params: &[Value],
    ) -> Result<Vec<Row>, StoreError> {
        let prepared = self.prepared(sql).await?;
        let params = statement::bind(&prepared, rows, params)?;
        let params = statement::refs(&params);
        let rows = self.exchange(self.client().query(&prepared.statement, &params).map_err(handlers)).await?;
        rows.iter().map(|row| statement::read(&prepared, row)).collect()
    }
}

/// The error of a handler's statement.
fn handlers(error: Error) -> Failed {
    Failed { error, at: At::Handler }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        if *self.spoiled.get_mut() || conn.link.client.is_closed() {
            return self.pool.cut_all(conn);
        }
        if *self.busy.get_mut() > 0 {
            return self.pool.cancel(conn);
        }
        if *self.open.get_mut() {
            // The first poll sends it. The next user of the connection is answered after it.
            let _ = conn.link.client.batch_execute("ROLLBACK").now_or_never();
        }
        self.pool.give_back(conn, self.user);
    }
}

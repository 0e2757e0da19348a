//! A connection in use, and the transaction that may be open on it.

use std::sync::{
    Arc, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures::FutureExt;
use saga_core::store::StoreError;
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::{Client, Error};

use super::{
    DEADLINE,
    error::{classify, spoils_connection},
    pool::{Conn, Pool},
    statement::{self, Prepared},
};
use crate::{
    row::Row,
    sql::Dialect,
    value::{Rows, Value},
};

/// READ COMMITTED whatever the server's default is: under a stronger level, what a transaction is told after it waited
/// for another would be as of before the wait.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// A connection in use. Dropping it rolls back, and gives the connection back if it is fit for the next use.
pub(crate) struct Session {
    /// Only none while it is dropped.
    conn: Option<Conn>,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
    /// A transaction may be open.
    open: AtomicBool,
    /// Exchanges that have begun and not ended. One that was dropped half-way never ends.
    busy: AtomicUsize,
    spoiled: AtomicBool,
}

impl Session {
    pub(super) fn new(conn: Conn, pool: Arc<Pool>, permit: OwnedSemaphorePermit) -> Self {
        Self {
            conn: Some(conn),
            pool,
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
    pub(super) async fn open(&self) -> Result<(), StoreError> {
        self.opened();
        self.exchange(self.client().batch_execute(BEGIN)).await
    }

    /// From now on a transaction may be open.
    pub(super) fn opened(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    /// The transaction has been committed.
    pub(super) fn closed(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    /// Waits for the server's answer, but not for ever.
    pub(super) async fn exchange<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        let Ok(result) = tokio::time::timeout(DEADLINE, work).await else {
            self.spoiled.store(true, Ordering::Relaxed);
            return Err(StoreError::Unavailable(format!("no answer within {} s", DEADLINE.as_secs())));
        };
        self.busy.fetch_sub(1, Ordering::Relaxed);
        result.map_err(|error| {
            if spoils_connection(&error) {
                self.spoiled.store(true, Ordering::Relaxed);
            }
            classify(&error)
        })
    }

    /// The statement, prepared on this connection.
    pub(super) async fn prepared(&self, sql: &'static str) -> Result<Arc<Prepared>, StoreError> {
        let known = self.conn().statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(prepared) = known {
            return Ok(prepared);
        }
        let rendered = self.pool.rendered.get(sql, Dialect::Postgres)?;
        let statement = self.exchange(self.client().prepare(&rendered.sql)).await?;
        let prepared = Arc::new(Prepared::new(statement, rendered));
        self.conn().statements.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, prepared.clone());
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
        self.exchange(self.client().execute(&prepared.statement, &statement::refs(&params))).await
    }

    pub(crate) async fn query(
        &self,
        sql: &'static str,
        rows: Option<&Rows>,
        params: &[Value],
    ) -> Result<Vec<Row>, StoreError> {
        let prepared = self.prepared(sql).await?;
        let params = statement::bind(&prepared, rows, params)?;
        let rows = self.exchange(self.client().query(&prepared.statement, &statement::refs(&params))).await?;
        rows.iter().map(|row| statement::read(&prepared, row)).collect()
    }
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
            // The first poll sends it. Nobody waits for the answer: whoever uses the connection next is answered after it.
            let _ = conn.link.client.batch_execute("ROLLBACK").now_or_never();
        }
        self.pool.give_back(conn);
    }
}

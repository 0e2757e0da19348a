//! An open transaction as handlers see it: one API over both databases.

#[cfg(feature = "postgres")]
use std::sync::{Mutex, PoisonError};

use saga_core::{
    SagaId,
    store::{Refusal, StoreError},
};

#[cfg(feature = "sqlite")]
use crate::sqlite;
#[cfg(feature = "postgres")]
use crate::{deferred, postgres};
use crate::{
    error::Failure,
    row::Row,
    value::{Rows, Value},
};

/// An open transaction. Dropping it rolls back.
///
/// SQL is written once for both databases, with the placeholders of [`Tx::execute_rows`]. A statement is a `&'static
/// str`: rendered once, prepared once per connection, and closed to injection, because values enter as parameters only.
///
/// After the first failed statement the transaction is lost: every further call and the commit fail with the same
/// error. A handler passes it on with `?`.
pub struct Tx {
    pub(crate) session: Session,
    pub(crate) failure: Failure,
    /// What is sent before the next statement, or with the commit.
    #[cfg(feature = "postgres")]
    deferred: Mutex<Vec<deferred::Write>>,
    /// Held while they are sent: a second statement waits, and is sent after them.
    #[cfg(feature = "postgres")]
    flushing: tokio::sync::Mutex<()>,
}

pub(crate) enum Session {
    #[cfg(feature = "postgres")]
    Postgres(Box<postgres::Session>),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::Session),
}

#[cfg(feature = "postgres")]
impl From<postgres::Session> for Session {
    fn from(session: postgres::Session) -> Self {
        Self::Postgres(Box::new(session))
    }
}

#[cfg(feature = "sqlite")]
impl From<sqlite::Session> for Session {
    fn from(session: sqlite::Session) -> Self {
        Self::Sqlite(session)
    }
}

impl Tx {
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            failure: Failure::default(),
            #[cfg(feature = "postgres")]
            deferred: Mutex::default(),
            #[cfg(feature = "postgres")]
            flushing: tokio::sync::Mutex::default(),
        }
    }

    /// Writes with the commit, or before the next statement that is waited for: once, in its order, and without a round trip of
    /// its own. See [`Write`](crate::Write), which handlers use.
    ///
    /// # Errors
    /// As there.
    pub fn write(&self, sql: &'static str, params: impl AsRef<[Value]>) -> Result<(), StoreError> {
        self.defer(None, sql, params.as_ref())
    }

    /// Sends what was written so far and waits for it. Call it before [`Tx::postgres`], which sends nothing.
    ///
    /// # Errors
    /// As [`Tx::execute`].
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.failure.check()?;
        match &self.session {
            #[cfg(feature = "postgres")]
            Session::Postgres(session) => {
                let _turn = self.flushing.lock().await;
                self.failure.check()?;
                let writes = self.take_deferred();
                if writes.is_empty() {
                    return Ok(());
                }
                let unfinished = Unfinished(&self.failure);
                let sent = session.write(writes).await;
                std::mem::forget(unfinished);
                self.failure.note(sent)
            }
            #[cfg(feature = "sqlite")]
            Session::Sqlite(_) => Ok(()),
        }
    }

    #[cfg_attr(not(feature = "postgres"), allow(unused_variables, reason = "SQLite runs the statement at once"))]
    pub(crate) fn defer(&self, saga: Option<SagaId>, sql: &'static str, params: &[Value]) -> Result<(), StoreError> {
        self.failure.check()?;
        self.failure.note(params.iter().try_for_each(Value::check))?;
        match &self.session {
            #[cfg(feature = "postgres")]
            Session::Postgres(_) => {
                let write = deferred::Write { saga, sql, params: params.to_vec() };
                self.deferred.lock().unwrap_or_else(PoisonError::into_inner).push(write);
                Ok(())
            }
            // There is no round trip to be saved.
            #[cfg(feature = "sqlite")]
            Session::Sqlite(session) => self.failure.note(session.execute(sql, None, params).map(|_| ())),
        }
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn take_deferred(&self) -> Vec<deferred::Write> {
        std::mem::take(&mut *self.deferred.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs a statement and returns the number of rows that it wrote.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] when the data breaks a constraint or a type, [`StoreError::Broken`] when the statement is
    /// wrong, [`StoreError::Conflict`] on a deadlock, [`StoreError::Unavailable`] when the database does not answer.
    pub async fn execute(&self, sql: &'static str, params: impl AsRef<[Value]>) -> Result<u64, StoreError> {
        self.run_execute(sql, None, params.as_ref()).await
    }

    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// As [`Tx::execute`].
    pub async fn query(&self, sql: &'static str, params: impl AsRef<[Value]>) -> Result<Vec<Row>, StoreError> {
        self.run_query(sql, None, params.as_ref()).await
    }

    /// Runs a statement that returns at most one row.
    ///
    /// # Errors
    /// As [`Tx::execute`]; [`StoreError::Rejected`] when there is more than one row.
    pub async fn query_opt(&self, sql: &'static str, params: impl AsRef<[Value]>) -> Result<Option<Row>, StoreError> {
        let rows = self.run_query(sql, None, params.as_ref()).await?;
        self.failure.note(at_most_one(rows))
    }

    /// Runs one statement on many rows, which are a table in its FROM clause:
    ///
    /// ```sql
    /// INSERT INTO reservations (order_id, sku, quantity)
    /// SELECT r.order_id, r.sku, r.quantity FROM :rows(order_id text, sku text, quantity bigint) r
    /// ```
    ///
    /// - `:rows(name type, ..)`, once, followed by an alias. Types: `text`, `bigint`, `boolean`, `bytea`. The rows are
    ///   unordered: add an `ORDER BY` where it matters.
    /// - `$1`, `$2`, ..: the scalar parameters, in `params`; they are numbered from 1 with or without rows.
    /// - `:for_update`: `FOR UPDATE` on PostgreSQL and nothing on SQLite, where one transaction writes at a time.
    ///
    /// Both databases understand CTEs, `ON CONFLICT`, `RETURNING`, `UPDATE .. FROM` and `CAST(sum(x) AS bigint)`.
    /// SQLite needs a `WHERE true` before the `ON CONFLICT` of an `INSERT .. SELECT`.
    ///
    /// A statement that locks or writes rows of several sagas takes them in a fixed order, or transactions deadlock:
    /// first `.. ORDER BY sku :for_update`, then the update.
    ///
    /// # Errors
    /// As [`Tx::execute`]; [`StoreError::Broken`] when the rows do not fit the declared columns.
    pub async fn execute_rows(
        &self,
        sql: &'static str,
        rows: &Rows,
        params: impl AsRef<[Value]>,
    ) -> Result<u64, StoreError> {
        self.run_execute(sql, Some(rows), params.as_ref()).await
    }

    /// As [`Tx::execute_rows`], for a statement that returns rows.
    ///
    /// # Errors
    /// As [`Tx::execute_rows`].
    pub async fn query_rows(
        &self,
        sql: &'static str,
        rows: &Rows,
        params: impl AsRef<[Value]>,
    ) -> Result<Vec<Row>, StoreError> {
        self.run_query(sql, Some(rows), params.as_ref()).await
    }

    /// The connection, if the database is PostgreSQL, for what this API lacks. It is inside the transaction: do not
    /// call BEGIN, COMMIT or ROLLBACK.
    #[cfg(feature = "postgres")]
    pub fn postgres(&self) -> Option<&tokio_postgres::Client> {
        match &self.session {
            Session::Postgres(session) => Some(session.client()),
            #[cfg(feature = "sqlite")]
            Session::Sqlite(_) => None,
        }
    }

    /// Runs `work` on the connection, if the database is SQLite, for what this API lacks. It is inside the transaction:
    /// do not call BEGIN, COMMIT or ROLLBACK, nor this `Tx` in `work`.
    #[cfg(feature = "sqlite")]
    pub fn sqlite<T>(&self, work: impl FnOnce(&rusqlite::Connection) -> T) -> Option<T> {
        match &self.session {
            #[cfg(feature = "postgres")]
            Session::Postgres(_) => None,
            Session::Sqlite(session) => session.with(work).ok(),
        }
    }

    async fn run_execute(&self, sql: &'static str, rows: Option<&Rows>, params: &[Value]) -> Result<u64, StoreError> {
        self.flush().await?;
        self.failure.note(match &self.session {
            #[cfg(feature = "postgres")]
            Session::Postgres(session) => session.execute(sql, rows, params).await,
            #[cfg(feature = "sqlite")]
            Session::Sqlite(session) => session.execute(sql, rows, params),
        })
    }

    async fn run_query(
        &self,
        sql: &'static str,
        rows: Option<&Rows>,
        params: &[Value],
    ) -> Result<Vec<Row>, StoreError> {
        self.flush().await?;
        self.failure.note(match &self.session {
            #[cfg(feature = "postgres")]
            Session::Postgres(session) => session.query(sql, rows, params).await,
            #[cfg(feature = "sqlite")]
            Session::Sqlite(session) => session.query(sql, rows, params),
        })
    }
}

/// Fails the transaction when it is dropped: the caller has abandoned the writes, and some of them may not have been sent.
#[cfg(feature = "postgres")]
struct Unfinished<'a>(&'a Failure);

#[cfg(feature = "postgres")]
impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let why = "a statement was abandoned while earlier writes were being sent";
        let _ = self.0.note::<()>(Err(StoreError::Unavailable(why.to_owned())));
    }
}

pub(crate) fn at_most_one(mut rows: Vec<Row>) -> Result<Option<Row>, StoreError> {
    match rows.len() {
        0 | 1 => Ok(rows.pop()),
        n => {
            let text = format!("{n} rows where at most one was asked for");
            Err(StoreError::Rejected(Refusal::new("more than one row", text)))
        }
    }
}

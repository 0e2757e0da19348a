//! Writes of a step that are sent with the commit.

use saga_core::{handler::Cx, store::StoreError};

use crate::{Db, value::Value};

/// Writes of a handler that wait for the commit.
pub trait Write {
    /// Writes with the commit: the statement runs once for this event, after those that were written before it, and in one
    /// round trip with the COMMIT. It is how a handler for one event writes as cheaply as a set-based one. Whatever the handler
    /// reads afterwards sees it, because reading sends it first.
    ///
    /// ```
    /// # use saga_core::{StepError, handler::Cx}; use saga_store::{Db, Write, params};
    /// async fn debit(cx: &mut Cx<'_, Db>, account: &str, cents: i64) -> Result<(), StepError> {
    ///     cx.write("UPDATE account SET balance = balance - $1 WHERE id = $2", params![cents, account])?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// `INSERT INTO t (a, b) VALUES ($1, $2)`, also with `ON CONFLICT`, is sent as one statement for all events of the
    /// transaction. The statement is as at [`Tx::execute`](crate::Tx::execute), without `:rows(..)`.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] for a value that neither database can store. What the database says of the statement, the
    /// transaction fails with.
    fn write(&mut self, sql: &'static str, params: impl AsRef<[Value]>) -> Result<(), StoreError>;
}

impl Write for Cx<'_, Db> {
    fn write(&mut self, sql: &'static str, params: impl AsRef<[Value]>) -> Result<(), StoreError> {
        let saga = self.saga_id();
        self.tx().defer(saga, sql, params.as_ref())
    }
}

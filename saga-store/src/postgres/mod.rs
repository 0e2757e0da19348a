//! PostgreSQL: pooled connections, and what the runtime asks of the database in as few round trips as it can be asked.

mod admit;
mod collation;
mod commit;
mod connect;
mod due;
mod error;
mod park;
mod pipeline;
#[cfg(test)]
mod plans;
mod pool;
mod pooler;
mod schema;
mod session;
mod statement;
mod steps;
mod time;
mod tls;
mod write;

use std::{sync::Arc, time::Duration};

use saga_core::{
    barrier::Before,
    store::{Admission, StoreError},
};

pub(crate) use session::Session;

use crate::{error::ConnectError, migrate::Migration, row::Row, url::PostgresUrl, value::Value};
use connect::Target;
use pool::{Pool, User};

/// How long one exchange with the server may take before the database counts as unavailable: a server that hangs
/// keeps its connections open and never answers.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a transaction outside of a step, as a request's, waits for each lock.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Postgres {
    target: Arc<Target>,
    pool: Arc<Pool>,
}

impl Postgres {
    pub(crate) fn new(url: PostgresUrl, schema: &str) -> Self {
        let size = url.pool_size;
        let target = Arc::new(Target::new(url, schema));
        Self { pool: Arc::new(Pool::new(target.clone(), size)), target }
    }

    pub(crate) async fn prepare(&self, migrations: &[Migration]) -> Result<(), ConnectError> {
        pooler::refuse(&self.target).await?;
        schema::migrate(&self.target, migrations).await?;
        collation::warn(&self.target).await?;
        self.pool.open().await
    }

    /// Opens a transaction.
    pub(crate) async fn begin(&self) -> Result<Session, StoreError> {
        let session = self.pool.lease(User::Request).await?;
        session.open(PATIENCE).await?;
        Ok(session)
    }

    /// Opens a transaction and admits events.
    pub(crate) async fn admit(
        &self,
        admissions: &[Admission],
        patience: Duration,
    ) -> Result<(Session, Vec<Before>), StoreError> {
        let session = self.pool.lease(User::Worker).await?;
        let before = admit::admit(&session, admissions, patience).await?;
        Ok((session, before))
    }

    /// Reads outside a transaction.
    pub(crate) async fn query(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        self.pool.lease(User::Request).await?.query(sql, None, params).await
    }
}

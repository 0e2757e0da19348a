//! PostgreSQL: pooled connections, and the runtime's requests in few round trips.

mod admit;
mod call;
mod collation;
mod commit;
mod connect;
mod error;
mod outbox;
mod parked;
mod pipeline;
#[cfg(test)]
mod plans;
mod pool;
mod pooler;
mod rows;
mod schema;
mod session;
mod statement;
mod steps;
mod summary;
mod time;
mod timers;
mod tls;
mod url;
mod write;

use std::{sync::Arc, time::Duration};

use saga_core::{
    barrier::Before,
    store::{Admission, StoreError},
};

pub(crate) use session::Session;
pub(crate) use url::PostgresUrl;

use crate::{error::ConnectError, migrate::Migration, row::Row, value::Value};
use connect::Target;
use pool::{Pool, User};

/// Time limit of one exchange with the server. A server that hangs keeps its connections open and never answers.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a transaction outside a step, such as a request's, waits for each lock.
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

    /// A connection for one transaction or read.
    async fn session(&self, user: User) -> Result<Session, StoreError> {
        self.pool.lease(user).await.map(Session::new)
    }

    /// Opens a transaction that admits no event.
    pub(crate) async fn begin_plain(&self) -> Result<Session, StoreError> {
        let session = self.session(User::Request).await?;
        session.open(PATIENCE).await?;
        Ok(session)
    }

    /// Opens a transaction and admits events.
    pub(crate) async fn admit(
        &self,
        admissions: &[Admission],
        patience: Duration,
    ) -> Result<(Session, Vec<Before>), StoreError> {
        let session = self.session(User::Worker).await?;
        let before = admit::admit(&session, admissions, patience).await?;
        Ok((session, before))
    }

    /// Whether the server answers.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        self.query("SELECT 1", &[]).await.map(|_| ())
    }

    /// Reads outside a transaction.
    pub(crate) async fn query(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        self.session(User::Request).await?.query(sql, None, params).await
    }
}

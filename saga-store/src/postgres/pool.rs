//! A pool of connections: a stack of idle ones, and a bound on how many there are.
//!
//! Small enough to be written here, where a transaction can say itself whether its connection is fit for the next one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use saga_core::store::StoreError;
use tokio::sync::Semaphore;

use super::{
    DEADLINE,
    connect::{Link, Target},
    session::Session,
    statement::Prepared,
};
use crate::{error::ConnectError, sql::Cache};

/// A connection with the statements that are prepared on it.
pub(super) struct Conn {
    pub(super) link: Link,
    pub(super) statements: Mutex<HashMap<&'static str, Arc<Prepared>>>,
}

pub(super) struct Pool {
    target: Arc<Target>,
    idle: Mutex<Vec<Conn>>,
    permits: Arc<Semaphore>,
    pub(super) rendered: Cache,
}

impl Pool {
    pub(super) fn new(target: Arc<Target>, size: usize) -> Self {
        let permits = Arc::new(Semaphore::new(size));
        Self { target, idle: Mutex::default(), permits, rendered: Cache::default() }
    }

    /// A connection for one transaction or read: the one that was used last, or a new one.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Session, StoreError> {
        let permit = tokio::time::timeout(DEADLINE, self.permits.clone().acquire_owned())
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| StoreError::Unavailable("all connections are in use".into()))?;
        loop {
            let Some(conn) = self.idle().pop() else { break };
            if !conn.link.client.is_closed() {
                return Ok(Session::new(conn, self.clone(), permit));
            }
        }
        let link = self.target.connect().await.map_err(|error| match error {
            ConnectError::Unavailable(message) => StoreError::Unavailable(message),
            other => StoreError::Unavailable(other.to_string()),
        })?;
        Ok(Session::new(Conn { link, statements: Mutex::default() }, self.clone(), permit))
    }

    pub(super) fn give_back(&self, conn: Conn) {
        self.idle().push(conn);
    }

    /// Cuts a connection that does not work, and the idle ones with it: what broke one has mostly broken all.
    pub(super) fn cut_all(&self, conn: Conn) {
        conn.link.cut();
        let idle = std::mem::take(&mut *self.idle());
        idle.into_iter().for_each(|conn| conn.link.cut());
    }

    /// Cuts a connection on which somebody no longer waits for a statement, and asks the server to end that statement:
    /// one that waits for a lock would not notice that its client is gone, and its transaction keep what it has locked.
    pub(super) fn cancel(&self, conn: Conn) {
        let token = conn.link.client.cancel_token();
        conn.link.cut();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let target = self.target.clone();
            runtime.spawn(async move { target.cancel(token).await });
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Conn>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

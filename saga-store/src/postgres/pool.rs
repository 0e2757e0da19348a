//! A connection pool in two parts, so that a burst of requests leaves the worker its connections. Each part has a stack
//! of idle connections and a limit.
//!
//! It is written here because only the transaction knows whether its connection is fit for the next one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use saga_core::store::StoreError;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    DEADLINE,
    connect::{Link, Target},
    statement::Prepared,
};
use crate::{error::ConnectError, sql::Cache};

/// Idle time after which a request's connection is closed, so that other processes can have it.
const IDLE: Duration = Duration::from_secs(5);

/// How long a request waits for a connection before it is refused.
const PATIENCE: Duration = Duration::from_secs(3);

/// Pause between attempts while the server takes no more connections.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Connections of the worker: one for its transaction, one for the outbox.
const WORKER: usize = 2;

/// Who uses a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum User {
    /// The runtime, which keeps its connections.
    Worker,
    /// Everybody else.
    Request,
}

/// A connection and the statements prepared on it.
pub(super) struct Conn {
    pub(super) link: Link,
    pub(super) statements: Mutex<HashMap<&'static str, Arc<Prepared>>>,
    /// Those that insert many rows at once, by the statement that inserts one.
    pub(super) of_many: Mutex<HashMap<&'static str, Arc<Prepared>>>,
    /// When it was last used.
    used: Instant,
}

impl From<Link> for Conn {
    fn from(link: Link) -> Self {
        Self { link, statements: Mutex::default(), of_many: Mutex::default(), used: Instant::now() }
    }
}

/// A connection on loan. It comes back through [`Pool::give_back`]; dropping the permit makes room for the next one.
pub(super) struct Lease {
    pub(super) conn: Conn,
    pub(super) pool: Arc<Pool>,
    pub(super) user: User,
    pub(super) permit: OwnedSemaphorePermit,
}

/// One of the two parts.
struct Part {
    idle: Mutex<Vec<Conn>>,
    permits: Arc<Semaphore>,
}

impl Part {
    fn of(size: usize) -> Self {
        Self { idle: Mutex::default(), permits: Arc::new(Semaphore::new(size)) }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Conn>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last.
    fn take(&self) -> Option<Conn> {
        let mut idle = self.idle();
        while let Some(conn) = idle.pop() {
            if !conn.link.client.is_closed() {
                return Some(conn);
            }
        }
        None
    }
}

pub(super) struct Pool {
    target: Arc<Target>,
    worker: Part,
    requests: Part,
    /// A connection came back.
    freed: Notify,
    /// A task closes idle connections.
    tended: AtomicBool,
    pub(super) rendered: Cache,
}

impl Pool {
    /// A pool of at most `size` connections, and at least two.
    pub(super) fn new(target: Arc<Target>, size: usize) -> Self {
        let worker = WORKER.min(size.saturating_sub(1)).max(1);
        Self {
            target,
            worker: Part::of(worker),
            requests: Part::of(size.saturating_sub(worker).max(1)),
            freed: Notify::new(),
            tended: AtomicBool::new(false),
            rendered: Cache::default(),
        }
    }

    fn part(&self, user: User) -> &Part {
        match user {
            User::Worker => &self.worker,
            User::Request => &self.requests,
        }
    }

    /// Opens the worker's connection before requests can take all of them.
    pub(super) async fn open(self: &Arc<Self>) -> Result<(), ConnectError> {
        if self.worker.idle().is_empty() && self.worker.permits.available_permits() > 0 {
            let conn = self.target.connect().await?.into();
            self.worker.idle().push(conn);
        }
        Ok(())
    }

    /// A connection for one transaction or read: the one that was used last, or a new one.
    pub(super) async fn lease(self: &Arc<Self>, user: User) -> Result<Lease, StoreError> {
        let limit = if user == User::Worker { DEADLINE } else { PATIENCE };
        let until = Instant::now() + limit;
        let permit = tokio::time::timeout_at(until, self.part(user).permits.clone().acquire_owned());
        let permit = permit.await.ok().and_then(Result::ok);
        let permit = permit.ok_or_else(|| StoreError::Unavailable("all connections are in use".into()))?;
        loop {
            if let Some(conn) = self.part(user).take() {
                return Ok(Lease { conn, pool: self.clone(), user, permit });
            }
            match self.target.connect().await {
                Ok(link) => return Ok(Lease { conn: link.into(), pool: self.clone(), user, permit }),
                Err(ConnectError::Full(why)) => {
                    // The worker may take a request's idle connection.
                    if user == User::Worker
                        && let Some(conn) = self.requests.take()
                    {
                        return Ok(Lease { conn, pool: self.clone(), user, permit });
                    }
                    if Instant::now() >= until {
                        return Err(StoreError::Unavailable(format!("it takes no more connections: {why}")));
                    }
                }
                Err(ConnectError::Unavailable(message)) => return Err(StoreError::Unavailable(message)),
                Err(other) => return Err(StoreError::Unavailable(other.to_string())),
            }
            // Waits for one of ours, or one that another process closes.
            let _ = tokio::time::timeout(ASK_AGAIN, self.freed.notified()).await;
        }
    }

    pub(super) fn give_back(self: &Arc<Self>, mut conn: Conn, user: User) {
        conn.used = Instant::now();
        self.part(user).idle().push(conn);
        self.freed.notify_one();
        if user == User::Request && !self.tended.swap(true, Ordering::AcqRel) {
            let tending = Tending(Arc::downgrade(self));
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(tending.run());
            }
        }
    }

    /// Closes connections that have been idle for too long. Returns the time of the next look; none without idle
    /// connections.
    fn give_up_idle(&self) -> Option<Instant> {
        let mut idle = self.requests.idle();
        let now = Instant::now();
        // The first was used longest ago.
        let old = idle.iter().take_while(|conn| conn.used + IDLE <= now).count();
        idle.drain(..old).for_each(|conn| conn.link.close());
        idle.first().map(|conn| conn.used + IDLE)
    }

    /// Cuts a broken connection and all idle ones, which are mostly broken too.
    pub(super) fn cut_all(&self, conn: Conn) {
        conn.link.cut();
        for part in [&self.worker, &self.requests] {
            let idle = std::mem::take(&mut *part.idle());
            idle.into_iter().for_each(|conn| conn.link.cut());
        }
    }

    /// Cuts a connection whose statement was abandoned, and asks the server to end the statement. One that waits for
    /// a lock would not notice that its client is gone, and would keep its own locks.
    pub(super) fn cancel(&self, conn: Conn) {
        let token = conn.link.client.cancel_token();
        conn.link.cut();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let target = self.target.clone();
            runtime.spawn(async move { target.cancel(token).await });
        }
    }
}

/// Closes idle connections as long as there are any, or until its runtime ends.
struct Tending(Weak<Pool>);

impl Tending {
    async fn run(self) {
        let mut next = Some(Instant::now() + IDLE);
        while let Some(at) = next {
            tokio::time::sleep_until(at).await;
            // Looks once more after clearing the flag: a connection that came back in between must not be forgotten.
            next = self.0.upgrade().and_then(|pool| {
                let next = pool.give_up_idle();
                next.or_else(|| {
                    pool.tended.store(false, Ordering::Release);
                    pool.give_up_idle().filter(|_| !pool.tended.swap(true, Ordering::AcqRel))
                })
            });
        }
    }
}

impl Drop for Tending {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.tended.store(false, Ordering::Release);
        }
    }
}

//! A pool of connections in two parts, so that a burst of requests leaves the worker its own: a stack of idle ones each,
//! and a bound on how many there are.
//!
//! Small enough to be written here, where a transaction can say itself whether its connection is fit for the next one.

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

/// Connections of requests that nobody has used for this long are given back to the server: others may be waiting for them.
const IDLE: Duration = Duration::from_secs(5);

/// How long a request waits for a connection: its client is better told at once.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often a server that takes no more connections is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// The most that the worker has: one for its transaction, one for the outbox.
const WORKER: usize = 2;

/// Whose connection it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum User {
    /// The runtime: its connections are kept for as long as they work.
    Worker,
    /// Everybody else.
    Request,
}

/// A connection with the statements that are prepared on it.
pub(super) struct Conn {
    pub(super) link: Link,
    pub(super) statements: Mutex<HashMap<&'static str, Arc<Prepared>>>,
    /// When it was last used.
    used: Instant,
}

impl From<Link> for Conn {
    fn from(link: Link) -> Self {
        Self { link, statements: Mutex::default(), used: Instant::now() }
    }
}

/// A connection that is lent to somebody. [`Pool::give_back`] takes its connection back, and dropping the rest makes room for
/// the next.
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

    /// The one that was used last.
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
    /// Somebody gave a connection back.
    freed: Notify,
    /// Idle connections are being looked after.
    tended: AtomicBool,
    pub(super) rendered: Cache,
}

impl Pool {
    /// A pool of at most `size` connections, and no less than two.
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

    /// Opens what connection the worker needs before requests come that would take it.
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
                    // What a request has is the worker's for the taking.
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
            // One of ours, or one that somebody else gave back to the server.
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

    /// Gives connections back to the server that are idle for too long. Says when to look again; never, when there is none.
    fn give_up_idle(&self) -> Option<Instant> {
        let mut idle = self.requests.idle();
        let now = Instant::now();
        // The first was used longest ago.
        let old = idle.iter().take_while(|conn| conn.used + IDLE <= now).count();
        idle.drain(..old).for_each(|conn| conn.link.close());
        idle.first().map(|conn| conn.used + IDLE)
    }

    /// Cuts a connection that does not work, and the idle ones with it: what broke one has mostly broken all.
    pub(super) fn cut_all(&self, conn: Conn) {
        conn.link.cut();
        for part in [&self.worker, &self.requests] {
            let idle = std::mem::take(&mut *part.idle());
            idle.into_iter().for_each(|conn| conn.link.cut());
        }
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
}

/// Looks after idle connections for as long as there are any, or until its runtime ends.
struct Tending(Weak<Pool>);

impl Tending {
    async fn run(self) {
        let mut next = Some(Instant::now() + IDLE);
        while let Some(at) = next {
            tokio::time::sleep_until(at).await;
            // Nobody who gives a connection back meanwhile may believe that it is still looked after.
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

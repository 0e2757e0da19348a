//! SQLite: one connection that writes, behind a lock that a transaction holds from begin to end, and some that read.

mod admit;
mod commit;
mod due;
mod error;
mod files;
mod schema;
mod statement;
mod steps;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode};
use saga_core::{
    barrier::Before,
    store::{Admission, Changes, Committed, StoreError},
};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::{
    error::ConnectError,
    migrate::Migration,
    row::Row,
    sql::Cache,
    value::{Rows, Value},
};
use error::classify;
use files::Files;

/// How often, and after which pause, a transaction tries again to begin while another process writes: about 5 s.
const BUSY_TRIES: u32 = 150;
const BUSY_PAUSE: Duration = Duration::from_millis(15);

/// After so many of them, about a third of a second, nobody who can be refused is kept waiting.
const LOCKED_TRIES: u32 = 10;
/// How often such a one looks whether the file is locked, while he waits for his turn.
const LOOK: Duration = Duration::from_millis(100);

/// How long to wait for this process's own transactions: for ever would hide that one waits for itself.
const WAIT: Duration = Duration::from_secs(10);

/// How many reading connections are kept for the next read.
const READERS: usize = 4;

pub(crate) struct Sqlite {
    /// None until the database is prepared.
    writer: Arc<AsyncMutex<Option<Connection>>>,
    readers: Mutex<Vec<Connection>>,
    cache: Arc<Cache>,
    /// Another process has the file: transactions try to begin, and do not.
    locked: AtomicBool,
    /// Last, so that connections are closed before files are removed.
    files: Files,
}

impl Sqlite {
    pub(crate) fn new(files: Files) -> Self {
        Self {
            files,
            writer: Arc::default(),
            readers: Mutex::default(),
            cache: Arc::default(),
            locked: AtomicBool::new(false),
        }
    }

    pub(crate) fn file(path: std::path::PathBuf) -> Self {
        Self::new(Files::Kept(path))
    }

    pub(crate) fn temporary() -> Self {
        Self::new(Files::temporary())
    }

    /// Opens the file and applies what migrations are missing.
    pub(crate) async fn prepare(&self, migrations: &[Migration]) -> Result<(), ConnectError> {
        let mut writer = self.writer.lock().await;
        let mut conn = match writer.take() {
            Some(conn) => conn,
            None => self.files.open_writer()?,
        };
        schema::migrate(&mut conn, migrations)?;
        *writer = Some(conn);
        Ok(())
    }

    /// Waits for the writing connection and opens a transaction on it.
    pub(crate) async fn begin(&self) -> Result<Session, StoreError> {
        let writer = tokio::time::timeout(WAIT, self.writer.clone().lock_owned())
            .await
            .map_err(|_| StoreError::Unavailable("another transaction does not end".into()))?;
        match self.begin_on(writer, BUSY_TRIES).await? {
            Some(session) => Ok(session),
            None => Err(StoreError::Conflict("another process writes to the database file all the time".into())),
        }
    }

    /// As [`Sqlite::begin`], for somebody who is better refused than kept waiting while another process has the file.
    pub(crate) async fn begin_soon(&self) -> Result<Session, StoreError> {
        let waiting = self.writer.clone().lock_owned();
        let mut waiting = std::pin::pin!(waiting);
        let since = Instant::now();
        let writer = loop {
            match tokio::time::timeout(LOOK, &mut waiting).await {
                Ok(writer) => break writer,
                Err(_) if self.is_locked() => return Err(locked()),
                Err(_) if since.elapsed() > WAIT => {
                    return Err(StoreError::Unavailable("another transaction does not end".into()));
                }
                Err(_) => {}
            }
        };
        let tries = if self.is_locked() { 1 } else { LOCKED_TRIES };
        self.begin_on(writer, tries).await?.ok_or_else(locked)
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.locked.load(Relaxed)
    }

    /// None when another process has the file all the time.
    async fn begin_on(
        &self,
        writer: OwnedMutexGuard<Option<Connection>>,
        tries: u32,
    ) -> Result<Option<Session>, StoreError> {
        for tried in 1..=tries {
            // The write lock is taken at once, rather than at the first write, when it would be too late to wait for it.
            let begun = writer.as_ref().ok_or_else(not_prepared)?.execute_batch("BEGIN IMMEDIATE");
            match begun {
                Ok(()) => {
                    self.locked.store(false, Relaxed);
                    return Ok(Some(Session { writer: Mutex::new(writer), cache: self.cache.clone() }));
                }
                Err(error) if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) => {
                    return Err(classify(&error));
                }
                Err(_) => {
                    if tried >= LOCKED_TRIES {
                        self.locked.store(true, Relaxed);
                    }
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
            }
        }
        Ok(None)
    }

    pub(crate) async fn admit(&self, admissions: &[Admission]) -> Result<(Session, Vec<Before>), StoreError> {
        let session = self.begin().await?;
        let before: Result<_, _> =
            session.with(|conn| admissions.iter().map(|one| admit::admit(conn, one)).collect())?;
        before.map(|before| (session, before))
    }

    /// Reads outside a transaction, without waiting for one that is open.
    pub(crate) fn query(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        self.read(|conn| statement::query(conn, &self.cache, sql, None, params))
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = match idle {
            Some(conn) => conn,
            None => self.files.open_reader().map_err(|error| classify(&error))?,
        };
        let result = work(&conn);
        // After an error the connection may be what is wrong.
        if result.is_ok() {
            let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            if readers.len() < READERS {
                readers.push(conn);
            }
        }
        result
    }
}

fn locked() -> StoreError {
    StoreError::Unavailable("another process has locked the database file".into())
}

fn not_prepared() -> StoreError {
    StoreError::Unavailable("the database is not prepared yet".into())
}

/// An open transaction. Dropping it rolls back.
pub(crate) struct Session {
    writer: Mutex<OwnedMutexGuard<Option<Connection>>>,
    cache: Arc<Cache>,
}

impl Session {
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Connection) -> T) -> Result<T, StoreError> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(work(writer.as_ref().ok_or_else(not_prepared)?))
    }

    pub(crate) fn commit(self, schema: &str, changes: &Changes) -> Result<Committed, StoreError> {
        self.with(|conn| commit::commit(conn, schema, changes))?
    }

    pub(crate) fn execute(&self, sql: &'static str, rows: Option<&Rows>, params: &[Value]) -> Result<u64, StoreError> {
        self.with(|conn| statement::execute(conn, &self.cache, sql, rows, params))?
    }

    pub(crate) fn query(
        &self,
        sql: &'static str,
        rows: Option<&Rows>,
        params: &[Value],
    ) -> Result<Vec<Row>, StoreError> {
        self.with(|conn| statement::query(conn, &self.cache, sql, rows, params))?
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let rolled_back = self.with(|conn| if conn.is_autocommit() { Ok(()) } else { conn.execute_batch("ROLLBACK") });
        if let Ok(Err(error)) = rolled_back {
            tracing::warn!(%error, "a transaction could not be rolled back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(2);

    #[tokio::test(flavor = "multi_thread")]
    async fn while_another_process_has_the_file_a_request_is_refused_soon() {
        let path = std::env::temp_dir().join(format!("saga-locked-{}.db", uuid::Uuid::new_v4()));
        let sqlite = Arc::new(Sqlite::new(Files::Temporary(path.clone())));
        sqlite.prepare(&[]).await.unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();

        // The worker, which has the connection while it waits.
        let worker = sqlite.clone();
        let waits = tokio::spawn(async move { worker.begin().await.map(|_| ()) });
        for _ in 0..3 {
            let asked = Instant::now();
            let refused = sqlite.begin_soon().await.map(|_| ()).unwrap_err().to_string();
            assert!(refused.contains("locked the database file"), "{refused}");
            assert!(asked.elapsed() < SOON && sqlite.is_locked(), "{:?}", asked.elapsed());
        }
        waits.await.unwrap().unwrap_err();
        assert!(sqlite.begin_soon().await.is_err(), "also when nobody else tries");

        other.execute_batch("ROLLBACK").unwrap();
        assert!(sqlite.begin_soon().await.is_ok() && !sqlite.is_locked());
    }
}

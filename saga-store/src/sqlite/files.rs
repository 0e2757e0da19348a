//! SQLite's files: opening connections and setting them up.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use super::error::classify_open;
use crate::error::ConnectError;

/// How long a statement blocks its thread while another process has the file. A transaction waits longer, without its
/// thread.
pub(super) const BUSY: Duration = Duration::from_millis(20);

pub(crate) enum Files {
    Kept(PathBuf),
    /// Removed with its last user. SQLite's own in-memory databases would block readers while one writes.
    Temporary(PathBuf),
}

impl Files {
    pub(super) fn temporary() -> Self {
        Self::Temporary(std::env::temp_dir().join(format!("saga-{}.db", Uuid::new_v4())))
    }

    fn path(&self) -> &Path {
        let (Self::Kept(path) | Self::Temporary(path)) = self;
        path
    }

    pub(super) fn open_writer(&self) -> Result<Connection, ConnectError> {
        if let Some(folder) = self.path().parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| {
                ConnectError::misconfigured(format!("the folder {} cannot be created: {error}", folder.display()))
            })?;
        }
        let conn = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE);
        let conn = conn.map_err(|error| classify_open(&error))?;
        // WAL: readers continue during a write. FULL: a commit is on disk when it returns, even after a power cut.
        let pragmas = match self {
            Self::Kept(_) => "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;",
            Self::Temporary(_) => "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;",
        };
        set_up(&conn, pragmas).map_err(|error| classify_open(&error))?;
        Ok(conn)
    }

    pub(super) fn open_reader(&self) -> Result<Connection, rusqlite::Error> {
        let conn = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        set_up(&conn, "PRAGMA query_only = true;")?;
        Ok(conn)
    }

    fn open(&self, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
        let conn = Connection::open_with_flags(self.path(), flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        conn.busy_timeout(BUSY)?;
        conn.set_prepared_statement_cache_capacity(256);
        set_up(&conn, "PRAGMA foreign_keys = true;")?;
        Ok(conn)
    }
}

/// Runs pragmas and ignores their answers.
fn set_up(conn: &Connection, pragmas: &str) -> Result<(), rusqlite::Error> {
    conn.execute_batch(pragmas)
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Self::Temporary(path) = self {
            for suffix in ["", "-wal", "-shm"] {
                let mut name = path.clone().into_os_string();
                name.push(suffix);
                // A database that was never opened has no files.
                let _ = std::fs::remove_file(name);
            }
        }
    }
}

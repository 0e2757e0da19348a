//! SQLite's files: how connections are opened and set up.

use std::{path::PathBuf, time::Duration};

use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use super::error::classify_open;
use crate::error::ConnectError;

/// How long a statement blocks its thread while another process has the file. A transaction waits longer, but gives the
/// thread away meanwhile.
const BUSY: Duration = Duration::from_millis(20);

pub(crate) enum Files {
    On(PathBuf),
    /// The name of a database that the connections of this process share.
    InMemory(String),
}

impl Files {
    pub(super) fn in_memory() -> Self {
        Self::InMemory(format!("file:/{}?vfs=memdb", Uuid::new_v4()))
    }

    pub(super) fn open_writer(&self) -> Result<Connection, ConnectError> {
        if let Self::On(path) = self
            && let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder).map_err(|error| {
                ConnectError::misconfigured(format!("the folder {} cannot be created: {error}", folder.display()))
            })?;
        }
        let conn = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE);
        let conn = conn.map_err(|error| classify_open(&error))?;
        if let Self::On(_) = self {
            // Readers go on while one writes, and a commit is on the disk when it returns, power cut or not.
            set_up(&conn, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
                .map_err(|error| classify_open(&error))?;
        }
        Ok(conn)
    }

    pub(super) fn open_reader(&self) -> Result<Connection, rusqlite::Error> {
        let conn = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        set_up(&conn, "PRAGMA query_only = true;")?;
        Ok(conn)
    }

    fn open(&self, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = match self {
            Self::On(path) => Connection::open_with_flags(path, flags)?,
            Self::InMemory(name) => Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_URI)?,
        };
        conn.busy_timeout(BUSY)?;
        conn.set_prepared_statement_cache_capacity(256);
        set_up(&conn, "PRAGMA foreign_keys = true;")?;
        Ok(conn)
    }
}

/// Runs pragmas, whose answers nobody needs.
fn set_up(conn: &Connection, pragmas: &str) -> Result<(), rusqlite::Error> {
    conn.execute_batch(pragmas)
}

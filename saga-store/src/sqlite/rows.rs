//! Running one statement of the framework's own, and reading its rows.

use rusqlite::{Connection, Row};
use saga_core::store::StoreError;

use super::error::classify;

/// Why a row cannot be read: SQLite's error, or a wrong value.
pub(super) enum ReadError {
    Sql(rusqlite::Error),
    Value(StoreError),
}

pub(super) type Read<T> = Result<T, ReadError>;

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Value(error)
    }
}

pub(super) fn list<T>(
    conn: &Connection,
    sql: &str,
    params: &[&dyn rusqlite::ToSql],
    read: impl Fn(&Row<'_>) -> Read<T>,
) -> Result<Vec<T>, StoreError> {
    let run = || -> Read<Vec<T>> {
        let mut statement = conn.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut list = Vec::new();
        while let Some(row) = rows.next()? {
            list.push(read(row)?);
        }
        Ok(list)
    };
    run().map_err(|error| match error {
        ReadError::Sql(error) => classify(&error),
        ReadError::Value(error) => error,
    })
}

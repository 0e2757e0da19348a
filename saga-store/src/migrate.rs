//! Migrations: schema changes that are applied once, in order, each in a transaction of its own.

use crate::error::ConnectError;

/// One schema change. Written in SQL that both databases understand: `text`, `bigint`, `boolean` and `bytea` columns.
///
/// Never change one that has been released: add another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Unique within the participant.
    pub name: &'static str,
    /// One or more statements.
    pub sql: &'static str,
}

/// The table that says which migrations were applied, and with which text.
pub(crate) const CREATE_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS saga_migration (name text PRIMARY KEY, sql text NOT NULL, applied_at text NOT NULL)";
pub(crate) const SELECT: &str = "SELECT sql FROM saga_migration WHERE name = $1";
pub(crate) const INSERT: &str = "INSERT INTO saga_migration (name, sql, applied_at) VALUES ($1, $2, $3)";

/// Compares a migration with the text it was applied with, if it was: whether it is still to be applied.
///
/// A migration that the database has and the program does not know is fine: it is a newer program's, which runs beside
/// this one while the service is upgraded.
pub(crate) fn pending(migration: &Migration, applied: Option<&str>) -> Result<bool, ConnectError> {
    match applied {
        None => Ok(true),
        Some(sql) if sql == migration.sql => Ok(false),
        Some(_) => Err(ConnectError::Migration {
            name: migration.name.to_owned(),
            message: "it was changed after it had been applied; undo the change and add another migration".into(),
        }),
    }
}

//! Migrations: schema changes that are applied once, in order, each in a transaction of its own.

use crate::error::ConnectError;

/// One schema change. Written in SQL that both databases understand: `text`, `bigint`, `boolean` and `bytea` columns.
///
/// A released migration never changes: add another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Unique within the participant. The framework's own names start with `saga/`.
    pub name: &'static str,
    /// One or more statements. A text whose first line is `-- only PostgreSQL` is recorded on SQLite and not run there:
    /// it is for what SQLite does not need, such as `COLLATE "C"`.
    pub sql: &'static str,
}

#[cfg(feature = "sqlite")]
impl Migration {
    pub(crate) fn only_postgres(&self) -> bool {
        self.sql.lines().next() == Some("-- only PostgreSQL")
    }
}

/// The table of applied migrations and their texts.
pub(crate) const CREATE_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS saga_migration (name text PRIMARY KEY, sql text NOT NULL, applied_at text NOT NULL)";
pub(crate) const INSERT: &str = "INSERT INTO saga_migration (name, sql, applied_at) VALUES ($1, $2, $3)";

/// Prefix of the framework's own migrations.
const FRAMEWORK: &str = "saga/";

/// Checks the applied migrations that this program does not know: a newer program has applied them. An unknown
/// migration of the framework is an error, because this program cannot work with its tables. One of the participant's
/// own is a warning, because two versions of a service run side by side during an upgrade.
pub(crate) fn known<'a>(
    applied: impl IntoIterator<Item = &'a str>,
    all: impl Iterator<Item = &'static str> + Clone,
) -> Result<(), ConnectError> {
    for name in applied {
        if all.clone().any(|known| known == name) {
            continue;
        }
        if name.starts_with(FRAMEWORK) {
            return Err(ConnectError::Migration {
                name: name.to_owned(),
                message: "this program does not know it: a newer version has changed the tables. Start that version"
                    .into(),
            });
        }
        tracing::warn!(migration = name, "the database has a migration that this program does not know");
    }
    Ok(())
}

/// Whether the migration is still to be applied. An applied one must have the same text.
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

//! Migrations: schema changes that are applied once, in order, each in a transaction of its own.

use crate::error::ConnectError;

/// One schema change. Written in SQL that both databases understand: `text`, `bigint`, `boolean` and `bytea` columns.
///
/// Never change one that has been released: add another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Unique within the participant. `saga/` is where the framework's own begin.
    pub name: &'static str,
    /// One or more statements. A text whose first line is `-- only PostgreSQL` is for what SQLite neither knows nor needs,
    /// such as `COLLATE "C"`: there it is recorded and not run.
    pub sql: &'static str,
}

#[cfg(feature = "sqlite")]
impl Migration {
    pub(crate) fn only_postgres(&self) -> bool {
        self.sql.lines().next() == Some("-- only PostgreSQL")
    }
}

/// The table that says which migrations were applied, and with which text.
pub(crate) const CREATE_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS saga_migration (name text PRIMARY KEY, sql text NOT NULL, applied_at text NOT NULL)";
pub(crate) const INSERT: &str = "INSERT INTO saga_migration (name, sql, applied_at) VALUES ($1, $2, $3)";

/// Where the names of the framework's own migrations begin.
const FRAMEWORK: &str = "saga/";

/// Looks at what the database has and the program does not know: a newer program has migrated it. What the framework's
/// tables have become this one cannot know, and it must not start. The participant's own tables are its author's business:
/// programs of two versions run side by side while a service is upgraded.
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

/// Compares a migration with the text it was applied with, if it was: whether it is still to be applied.
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

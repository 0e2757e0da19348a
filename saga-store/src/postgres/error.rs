//! What PostgreSQL's errors mean for the runtime.

use std::error::Error as StdError;

use saga_core::store::{Refusal, StoreError};
use tokio_postgres::{
    Error,
    error::{DbError, SqlState},
};

use crate::error::ConnectError;

/// Where a statement failed, which decides who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// In a statement of the framework's own, which concerns every event alike.
    Framework,
    /// In a handler's statement.
    Handler,
    /// At COMMIT, where deferred constraints are checked.
    Commit,
}

/// An error and where it happened; by default in a statement of the framework's own.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) at: At,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, at: At::Framework }
    }
}

/// A value does not fit the statement.
#[derive(Debug, thiserror::Error)]
pub(super) enum Mismatch {
    /// Their types differ: the statement is wrong for every value.
    #[error("{0}")]
    Type(String),
    /// This value does not fit; another would.
    #[error("{0}")]
    Value(String),
}

/// Classifies an error of the framework's own statements.
pub(super) fn classify(error: &Error) -> StoreError {
    classify_at(error, At::Framework)
}

/// Classifies an error. Only the participant's data in the participant's tables can be rejected for what it is.
pub(super) fn classify_at(error: &Error, at: At) -> StoreError {
    match by_code(error) {
        StoreError::Rejected(refusal) if !concerns_business(error, at) => StoreError::Broken(refusal.to_string()),
        other => other,
    }
}

/// Classifies a column that cannot be read: either this row's value does not fit, or no row's would.
pub(super) fn classify_unreadable(error: &Error) -> StoreError {
    match mismatch(error) {
        Some(Mismatch::Type(text)) => StoreError::Broken(text.clone()),
        _ => StoreError::Rejected(Refusal::new("a column cannot be read", describe(error))),
    }
}

fn mismatch(error: &Error) -> Option<&Mismatch> {
    error.source().and_then(|source| source.downcast_ref())
}

/// Whether the error concerns a handler's data in the participant's own tables. A deferred constraint that names no
/// table is the participant's: the framework's tables have none.
fn concerns_business(error: &Error, at: At) -> bool {
    if error.code().is_some_and(|code| *code == SqlState::IN_FAILED_SQL_TRANSACTION) {
        // Wherever it surfaces: a handler has swallowed the error of an earlier statement.
        return true;
    }
    match error.as_db_error().and_then(|db| db.table()) {
        Some(table) => at != At::Framework && !table.starts_with("saga_"),
        None => at != At::Framework,
    }
}

/// Classifies by SQLSTATE. The details are left out, because they may quote other rows' data.
fn by_code(error: &Error) -> StoreError {
    let Some(db) = error.as_db_error() else {
        return match mismatch(error) {
            Some(Mismatch::Type(text)) => StoreError::Broken(text.clone()),
            Some(Mismatch::Value(text)) => StoreError::Rejected(text.as_str().into()),
            None => StoreError::Unavailable(describe(error)),
        };
    };
    let text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
    match db.code().code() {
        // Serialization failure, deadlock.
        "40001" | "40P01" => StoreError::Conflict(text),
        // Another transaction held a lock for longer than the lock timeout.
        "55P03" => StoreError::Locked(text),
        // An unsupported statement, or a prepared one that no longer fits its tables.
        "0A000" | "26000" => StoreError::Broken(text),
        // A statement after one that failed.
        "25P02" => StoreError::Rejected(Refusal::new(kind(db), text)),
        code => match code.get(..2) {
            // A wrong statement, or one that names what is missing or forbidden.
            Some("28" | "3D" | "3F" | "42") => StoreError::Broken(text),
            // The connection, the transaction, resources, an operator, the system, a foreign server.
            Some("08" | "25" | "40" | "53" | "55" | "57" | "58" | "72" | "F0" | "HV" | "XX") => {
                StoreError::Unavailable(text)
            }
            // A constraint, a value, RAISE with any code: this data is refused.
            _ => StoreError::Rejected(Refusal::new(kind(db), text)),
        },
    }
}

/// A key for refusals with the same cause; the message itself may quote the row.
fn kind(db: &DbError) -> String {
    let parts = [Some(db.code().code()), db.table(), db.column(), db.datatype(), db.constraint()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Whether the error makes the connection unusable: it broke, or the server no longer agrees with its prepared
/// statements.
pub(super) fn spoils_connection(error: &Error, at: At) -> bool {
    match error.code().map(SqlState::code) {
        Some("0A000" | "26000") => true,
        // The statement was cancelled, by its timeout or by an operator; the connection is fine.
        Some("57014") => false,
        _ => matches!(classify_at(error, at), StoreError::Unavailable(_)),
    }
}

/// Classifies an error while connecting: a wrong user, a missing right and a missing database do not pass by waiting.
pub(super) fn classify_connect(error: &Error) -> ConnectError {
    if let Some(db) = error.as_db_error() {
        let text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
        return match db.code().code() {
            // The limit of the server, of this database, or of this user.
            "53300" => ConnectError::Full(text),
            "3D000" | "42501" => ConnectError::misconfigured(text),
            code if code.starts_with("28") => ConnectError::misconfigured(text),
            _ => ConnectError::Unavailable(text),
        };
    }
    // Without the server's answer, either the network fails, or our request is wrong: TLS that the server lacks, a
    // wrong certificate, a missing password. Network failures are io errors, and a connection that just ends has no
    // cause.
    let text = describe(error);
    let mut cause = error.source();
    let mut network = cause.is_none() || error.is_closed();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            network = !io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        }
        cause = error.source();
    }
    if network { ConnectError::Unavailable(text) } else { ConnectError::misconfigured(text) }
}

/// The error with its root cause.
fn describe(error: &Error) -> String {
    let mut root: Option<&dyn StdError> = error.source();
    while let Some(next) = root.and_then(StdError::source) {
        root = Some(next);
    }
    root.map_or_else(|| error.to_string(), |root| format!("{error}: {root}"))
}

//! What PostgreSQL's errors mean for the runtime.

use std::error::Error as StdError;

use saga_core::store::{Refusal, StoreError};
use tokio_postgres::{
    Error,
    error::{DbError, SqlState},
};

use crate::error::ConnectError;

/// Where a statement failed, which says whom its error may blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// In a statement of the framework's own: that concerns every event alike.
    Framework,
    /// In a handler's statement.
    Handler,
    /// At COMMIT, when the database looks at what it was told to look at later (DEFERRABLE).
    Commit,
}

/// An error, and where it happened: in the framework's own statement unless it is said otherwise.
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

/// A value and the statement do not fit together.
#[derive(Debug, thiserror::Error)]
pub(super) enum Mismatch {
    /// By their types: a statement that is wrong for every value.
    #[error("{0}")]
    Type(String),
    /// By this value, where another one would fit.
    #[error("{0}")]
    Value(String),
}

/// What the error of a statement of the framework's own means.
pub(super) fn classify(error: &Error) -> StoreError {
    classify_at(error, At::Framework)
}

/// Only the participant's own data, in the participant's own tables, may be refused for what it is.
pub(super) fn classify_at(error: &Error, at: At) -> StoreError {
    match by_code(error) {
        StoreError::Rejected(refusal) if !concerns_business(error, at) => StoreError::Broken(refusal.to_string()),
        other => other,
    }
}

/// What it means that a column cannot be read: what stands in this row does not fit, or no row's ever will.
pub(super) fn classify_unreadable(error: &Error) -> StoreError {
    match mismatch(error) {
        Some(Mismatch::Type(text)) => StoreError::Broken(text.clone()),
        _ => StoreError::Rejected(Refusal::new("a column cannot be read", describe(error))),
    }
}

fn mismatch(error: &Error) -> Option<&Mismatch> {
    error.source().and_then(|source| source.downcast_ref())
}

/// What a handler wrote into tables of its own. What the database looks at when a transaction ends, and says of no table, is
/// what the handler made it look at: the framework's tables have nothing of that kind.
fn concerns_business(error: &Error, at: At) -> bool {
    if error.code().is_some_and(|code| *code == SqlState::IN_FAILED_SQL_TRANSACTION) {
        // Wherever it is noticed: a handler has thrown the error of an earlier statement away.
        return true;
    }
    match error.as_db_error().and_then(|db| db.table()) {
        Some(table) => at != At::Framework && !table.starts_with("saga_"),
        None => at != At::Framework,
    }
}

/// By SQLSTATE, since its classes say who is to blame. Details are left out, which may quote other rows' data.
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
        // Somebody else holds a lock for longer than the transaction was willing to wait.
        "55P03" => StoreError::Locked(text),
        // A statement that the server does not support, or whose prepared form no longer fits its tables.
        "0A000" | "26000" => StoreError::Broken(text),
        // A statement after one that failed.
        "25P02" => StoreError::Rejected(Refusal::new(kind(db), text)),
        code => match code.get(..2) {
            // A statement that is wrong, or what it names is not there, or is not for this user.
            Some("28" | "3D" | "3F" | "42") => StoreError::Broken(text),
            // The connection, the transaction, the server's means, an operator, the system, a foreign server.
            Some("08" | "25" | "40" | "53" | "55" | "57" | "58" | "72" | "F0" | "HV" | "XX") => {
                StoreError::Unavailable(text)
            }
            // A constraint, a value, RAISE with a code of anybody's choice: what was done with this data.
            _ => StoreError::Rejected(Refusal::new(kind(db), text)),
        },
    }
}

/// What refusals of one cause have in common: a message may quote the row.
fn kind(db: &DbError) -> String {
    let parts = [Some(db.code().code()), db.table(), db.column(), db.datatype(), db.constraint()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Whether the connection is worth keeping after the error. One that broke is not, nor one whose prepared statements
/// the server no longer has or no longer agrees with.
pub(super) fn spoils_connection(error: &Error, at: At) -> bool {
    match error.code().map(SqlState::code) {
        Some("0A000" | "26000") => true,
        // The statement was ended, by its time limit or by an operator: the connection is as good as before.
        Some("57014") => false,
        _ => matches!(classify_at(error, at), StoreError::Unavailable(_)),
    }
}

/// What an error while connecting means: who we are, what we may and which database there is do not change by waiting.
pub(super) fn classify_connect(error: &Error) -> ConnectError {
    if let Some(db) = error.as_db_error() {
        let text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
        return match db.code().code() {
            // For everybody, for this database, or for this user.
            "53300" => ConnectError::Full(text),
            "3D000" | "42501" => ConnectError::misconfigured(text),
            code if code.starts_with("28") => ConnectError::misconfigured(text),
            _ => ConnectError::Unavailable(text),
        };
    }
    // Without an answer of the server, what is wrong is either the network or what we asked for: TLS that the server
    // does not speak, a certificate that does not fit, a password that is missing. Only the network speaks in io errors,
    // and a connection that just ends names no cause at all.
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

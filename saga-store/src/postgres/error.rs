//! What PostgreSQL's errors mean for the runtime.

use std::error::Error as StdError;

use saga_core::store::StoreError;
use tokio_postgres::{Error, error::SqlState};

use super::statement::Mismatch;
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

/// What the error of a statement of the framework's own means.
pub(super) fn classify(error: &Error) -> StoreError {
    classify_at(error, At::Framework)
}

/// Only the participant's own data, in the participant's own tables, may be refused for what it is.
pub(super) fn classify_at(error: &Error, at: At) -> StoreError {
    match by_code(error) {
        StoreError::Rejected(text) if at == At::Framework || !concerns_business(error, at) => StoreError::Broken(text),
        other => other,
    }
}

fn concerns_business(error: &Error, at: At) -> bool {
    match error.as_db_error().and_then(|db| db.table()) {
        Some(table) => !table.starts_with("saga_"),
        None => at == At::Handler,
    }
}

/// By SQLSTATE, since its classes say who is to blame. Details are left out, which may quote other rows' data.
fn by_code(error: &Error) -> StoreError {
    let Some(db) = error.as_db_error() else {
        return match error.source().and_then(|source| source.downcast_ref::<Mismatch>()) {
            Some(mismatch) => StoreError::Broken(mismatch.to_string()),
            None => StoreError::Unavailable(describe(error)),
        };
    };
    let text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
    match db.code().code() {
        // Serialization failure, deadlock.
        "40001" | "40P01" => StoreError::Conflict(text),
        // Somebody else holds a lock for longer than the transaction was willing to wait.
        "55P03" => StoreError::Locked(text),
        // A statement after one that failed, whose error somebody has thrown away; a statement that the server does not
        // support, or whose prepared form no longer fits its tables.
        "25P02" | "0A000" | "26000" => StoreError::Broken(text),
        // Data that a row or an index cannot hold, a subquery with more rows than one, RAISE in a trigger.
        "54000" | "21000" | "P0001" => StoreError::Rejected(text),
        code => match code.get(..2) {
            Some("22" | "23" | "44") => StoreError::Rejected(text),
            Some("42" | "54") => StoreError::Broken(text),
            _ => StoreError::Unavailable(text),
        },
    }
}

/// Whether the connection is worth keeping after the error. One that broke is not, nor one whose prepared statements
/// the server no longer has or no longer agrees with.
pub(super) fn spoils_connection(error: &Error) -> bool {
    match error.code().map(SqlState::code) {
        Some("0A000" | "26000") => true,
        // The statement was ended, by its time limit or by an operator: the connection is as good as before.
        Some("57014") => false,
        _ => matches!(classify(error), StoreError::Unavailable(_)),
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

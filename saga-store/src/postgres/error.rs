//! What PostgreSQL's errors mean for the runtime.

use std::error::Error as StdError;

use saga_core::store::StoreError;
use tokio_postgres::Error;

use super::statement::Mismatch;
use crate::error::ConnectError;

/// By SQLSTATE, since its classes say who is to blame. Details are left out, which may quote other rows' data.
pub(super) fn classify(error: &Error) -> StoreError {
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
    let stale = error.code().is_some_and(|code| matches!(code.code(), "0A000" | "26000"));
    stale || matches!(classify(error), StoreError::Unavailable(_))
}

/// What an error while connecting means: who we are, what we may and which database there is do not change by waiting.
pub(super) fn classify_connect(error: &Error) -> ConnectError {
    if let Some(db) = error.as_db_error() {
        let text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
        return match db.code().code() {
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

//! What SQLite's errors mean for the runtime.

use rusqlite::{Error, ErrorCode};
use saga_core::store::StoreError;

use crate::error::ConnectError;

/// Classifies an error of the framework's own statements, which concerns every event alike.
pub(super) fn classify(error: &Error) -> StoreError {
    match classify_handlers(error) {
        StoreError::Rejected(refusal) => StoreError::Broken(refusal.to_string()),
        other => other,
    }
}

/// Classifies an error of a handler's statement, or of a COMMIT, where only a handler's data can be refused by a
/// deferred constraint.
pub(super) fn classify_handlers(error: &Error) -> StoreError {
    let text = error.to_string();
    match error {
        Error::SqliteFailure(failure, _) | Error::SqlInputError { error: failure, .. } => match failure.code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreError::Conflict(text),
            ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig => {
                StoreError::Rejected(text.into())
            }
            // SQLITE_ERROR: a syntax error, a missing table or column.
            ErrorCode::Unknown | ErrorCode::ApiMisuse | ErrorCode::ParameterOutOfRange => StoreError::Broken(text),
            _ => StoreError::Unavailable(text),
        },
        // A real number, which any column on SQLite may hold and none is read as.
        Error::InvalidColumnType(..) => StoreError::Rejected(text.into()),
        _ => StoreError::Broken(text),
    }
}

/// Classifies the failure of a prepared statement: its data is at fault (an overflowing sum, malformed JSON), unless
/// the tables have changed.
pub(super) fn classify_running(error: &Error) -> StoreError {
    match classify_handlers(error) {
        StoreError::Broken(text)
            if error.sqlite_error_code() == Some(ErrorCode::Unknown) && !text.contains("no such ") =>
        {
            StoreError::Rejected(text.into())
        }
        other => other,
    }
}

/// Classifies an error while opening the file: a foreign or forbidden file stays that way.
pub(super) fn classify_open(error: &Error) -> ConnectError {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::NotADatabase | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            ConnectError::misconfigured(error.to_string())
        }
        _ => ConnectError::Unavailable(error.to_string()),
    }
}

//! What SQLite's errors mean for the runtime.

use rusqlite::{Error, ErrorCode};
use saga_core::store::StoreError;

use crate::error::ConnectError;

/// What the error of a statement of the framework's own means: it concerns every event alike.
pub(super) fn classify(error: &Error) -> StoreError {
    match classify_handlers(error) {
        StoreError::Rejected(refusal) => StoreError::Broken(refusal.to_string()),
        other => other,
    }
}

/// What the error of a handler's statement means, or that of a COMMIT, where only a handler's data can be refused: what it
/// was told to look at later.
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
        // A real number, which is read nowhere: on SQLite any column may hold one.
        Error::InvalidColumnType(..) => StoreError::Rejected(text.into()),
        _ => StoreError::Broken(text),
    }
}

/// What it means that a handler's statement fails that was understood when it was prepared: its data did (a sum that
/// overflows, JSON that is none), unless the tables have changed since.
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

/// What an error while the file is opened means: a file that is none of ours, or that may not be opened, stays so.
pub(super) fn classify_open(error: &Error) -> ConnectError {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::NotADatabase | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            ConnectError::misconfigured(error.to_string())
        }
        _ => ConnectError::Unavailable(error.to_string()),
    }
}

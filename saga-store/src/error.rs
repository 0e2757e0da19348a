//! Why a database cannot be used, and the first failure of a transaction.

use std::sync::{Arc, OnceLock};

use saga_core::store::StoreError;

/// The settings are wrong and must be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database settings are wrong: {0}")]
pub struct Misconfigured(pub String);

/// Why a text is not a database URL. The message does not quote the text, which may contain a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a database URL: {0}")]
pub struct UrlError(pub(crate) &'static str);

/// Why the database is not ready.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not reachable yet, or busy: try again later.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// All of its connections are taken: try again later.
    #[error("the database takes no more connections: {0}")]
    Full(String),
    /// Wrong password, missing database, missing permission, wrong certificate: trying again does not help.
    #[error(transparent)]
    Misconfigured(#[from] Misconfigured),
    /// A migration was refused, or differs from the one of the same name that was applied. Trying again does not help.
    #[error("migration {name}: {message}")]
    Migration {
        /// The migration's name.
        name: String,
        /// What the database says.
        message: String,
    },
}

impl ConnectError {
    pub(crate) fn misconfigured(message: impl Into<String>) -> Self {
        Self::Misconfigured(Misconfigured(message.into()))
    }

    /// The error of the migration `name`. Only what may pass by itself is worth another try.
    pub(crate) fn migration(name: &str, error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(message) | StoreError::Conflict(message) | StoreError::Locked(message) => {
                Self::Unavailable(message)
            }
            StoreError::Broken(message) => Self::Migration { name: name.to_owned(), message },
            StoreError::Rejected(refusal) => Self::Migration { name: name.to_owned(), message: refusal.to_string() },
        }
    }
}

/// The first failure of a transaction, which ends the transaction on both databases. PostgreSQL has aborted it by then;
/// SQLite follows, so that handlers behave the same on both.
#[derive(Clone, Default)]
pub(crate) struct Failure(Arc<OnceLock<StoreError>>);

impl Failure {
    /// Fails with the first failure, if there was one.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.0.get().map_or(Ok(()), |first| Err(copy(first)))
    }

    /// The first failure as a commit reports it. A handler that commits all the same has swallowed its error, and is at
    /// fault.
    pub(crate) fn check_at_commit(&self) -> Result<(), StoreError> {
        self.check().map_err(|first| match first {
            StoreError::Broken(text) => StoreError::Rejected(format!("a failure was thrown away: {text}").into()),
            other => other,
        })
    }

    /// Records a result's error.
    pub(crate) fn note<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            // Only the first error counts; later ones follow from it.
            let _ = self.0.set(copy(error));
        }
        result
    }

    /// Whether the transaction conflicted with another, and is worth an immediate retry.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self.0.get(), Some(StoreError::Conflict(_)))
    }
}

fn copy(error: &StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(message) => StoreError::Unavailable(message.clone()),
        StoreError::Conflict(message) => StoreError::Conflict(message.clone()),
        StoreError::Locked(message) => StoreError::Locked(message.clone()),
        StoreError::Broken(message) => StoreError::Broken(message.clone()),
        StoreError::Rejected(refusal) => StoreError::Rejected(refusal.clone()),
    }
}

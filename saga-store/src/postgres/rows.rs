//! Running one statement of the framework's own, and reading its rows.

use jiff::Timestamp;
use saga_core::store::StoreError;
use tokio_postgres::{Row, types::ToSql};

use super::{error::classify, session::Session, time::Micros};

/// Runs one statement in a transaction of its own.
pub(super) async fn run(
    session: &Session,
    sql: &'static str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, StoreError> {
    let prepared = session.prepared(sql).await?;
    session.exchange(session.client().query(&prepared.statement, params)).await
}

/// Why a row cannot be read.
pub(super) struct ReadError(StoreError);

impl From<tokio_postgres::Error> for ReadError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(classify(&error))
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self(error)
    }
}

pub(super) fn list<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T, ReadError>) -> Result<Vec<T>, StoreError> {
    rows.iter().map(|row| read(row).map_err(|error| error.0)).collect()
}

pub(super) fn time(micros: Option<Micros>) -> Result<Option<Timestamp>, ReadError> {
    Ok(micros.map(Micros::time).transpose()?)
}

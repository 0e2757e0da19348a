//! The outbox on PostgreSQL: reading unsent rows, and deleting sent ones.

use std::time::Duration;

use saga_core::store::{OutboxRow, StoreError, Unsent};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Postgres,
    pool::User,
    rows::{ReadError, list, run},
    time::{Micros, seconds},
};
use crate::columns;

/// A page of unsent rows without their payloads, read through the index: its cost does not depend on the table's size.
const UNSENT: &str = "
SELECT seq, id, aggregateid, created_at > clock_timestamp() - make_interval(secs => $2) FROM saga_outbox
WHERE seq > $1 ORDER BY seq LIMIT $3";
const ROWS: &str = "
SELECT id, aggregateid, type, topic, payload, headers, tracingspancontext, created_at FROM saga_outbox
WHERE id = ANY($1::uuid[]) ORDER BY seq";
pub(super) const SENT: &str = "DELETE FROM saga_outbox WHERE id = ANY($1::uuid[])";

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[UNSENT, ROWS, SENT];
#[cfg(test)]
pub(super) const WALK: &str = UNSENT;

impl Postgres {
    pub(crate) async fn unsent(&self, behind: i64, grace: Duration, limit: i64) -> Result<Vec<Unsent>, StoreError> {
        let session = self.session(User::Worker).await?;
        list(&run(&session, UNSENT, &[&behind, &seconds(grace), &limit]).await?, unsent)
    }

    pub(crate) async fn outbox(&self, ids: &[Uuid]) -> Result<Vec<OutboxRow>, StoreError> {
        let session = self.session(User::Worker).await?;
        list(&run(&session, ROWS, &[&ids]).await?, outbox_row)
    }

    pub(crate) async fn mark_sent(&self, ids: &[Uuid]) -> Result<(), StoreError> {
        let session = self.session(User::Worker).await?;
        run(&session, SENT, &[&ids]).await.map(|_| ())
    }
}

fn unsent(row: &Row) -> Result<Unsent, ReadError> {
    Ok(Unsent {
        seq: row.try_get(0)?,
        id: row.try_get(1)?,
        saga_id: columns::read_saga_id(row.try_get(2)?)?,
        young: row.try_get(3)?,
    })
}

fn outbox_row(row: &Row) -> Result<OutboxRow, ReadError> {
    let created_at = row.try_get::<_, Micros>(7)?.time()?;
    Ok(columns::outbox_row(
        row.try_get(0)?,
        row.try_get(1)?,
        row.try_get(2)?,
        row.try_get(3)?,
        row.try_get(4)?,
        (row.try_get(5)?, row.try_get(6)?),
        created_at,
    )?)
}

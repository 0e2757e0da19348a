//! Timers on PostgreSQL: taking the due ones, and postponing.

use std::time::Duration;

use saga_core::store::{DueTimer, StoreError};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    Postgres,
    pool::User,
    rows::{ReadError, list, run},
    session::{Opening, Session},
    time::{Micros, seconds},
};
use crate::columns;

/// Takes nothing where the transaction's mark is missing: see [`Opening`].
const TIMERS: &str = "
DELETE FROM saga_timer WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM saga_timer WHERE due <= now() AND current_setting('saga.tx', true) = $2 ORDER BY due LIMIT $1 FOR UPDATE SKIP LOCKED))
RETURNING saga_id, step, kind, due, traceparent, tracestate";
const POSTPONE: &str = "
UPDATE saga_timer SET due = now() + make_interval(secs => $5) WHERE ctid = ANY(ARRAY(
    SELECT t.at FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) AS p(saga_id, step, kind, due), LATERAL (
        SELECT ctid AS at FROM saga_timer t
        WHERE t.saga_id = p.saga_id AND t.step = p.step AND t.kind = p.kind AND t.due = p.due OFFSET 0) t))";

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[TIMERS, POSTPONE];

impl Postgres {
    pub(crate) async fn begin_due(
        &self,
        limit: i64,
        patience: Duration,
    ) -> Result<(Session, Vec<DueTimer>), StoreError> {
        let session = self.session(User::Worker).await?;
        let timers = session.prepared(TIMERS).await?;
        let opening = Opening::new(patience);
        let params: [&(dyn ToSql + Sync); 2] = [&limit, &opening.tx];
        let rows = session
            .exchange(async {
                session.opened();
                let client = session.client();
                let (begun, rows) =
                    futures::join!(client.batch_execute(&opening.sql), client.query(&timers.statement, &params));
                begun.and(rows)
            })
            .await?;
        let mut timers = list(&rows, due_timer)?;
        timers.sort_by_key(|timer| timer.due);
        Ok((session, timers))
    }

    pub(crate) async fn postpone(&self, timers: &[DueTimer], after: Duration) -> Result<(), StoreError> {
        let session = self.session(User::Worker).await?;
        let sagas: Vec<Uuid> = timers.iter().map(|timer| timer.saga_id.as_uuid()).collect();
        let steps: Vec<&str> = timers.iter().map(|timer| timer.step.as_str()).collect();
        let kinds: Vec<&str> = timers.iter().map(|timer| timer.kind.name()).collect();
        let due: Vec<Micros> = timers.iter().map(|timer| timer.due.into()).collect();
        run(&session, POSTPONE, &[&sagas, &steps, &kinds, &due, &seconds(after)]).await.map(|_| ())
    }
}

fn due_timer(row: &Row) -> Result<DueTimer, ReadError> {
    Ok(DueTimer {
        saga_id: row.try_get::<_, Uuid>(0)?.into(),
        step: row.try_get(1)?,
        kind: columns::read_timer_kind(row.try_get(2)?)?,
        due: row.try_get::<_, Micros>(3)?.time()?,
        trace: columns::trace(row.try_get(4)?, row.try_get(5)?),
    })
}

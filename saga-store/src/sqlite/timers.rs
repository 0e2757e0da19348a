//! Timers on SQLite: taking the due ones, and postponing.

use std::time::Duration;

use rusqlite::{Row, params};
use saga_core::store::{DueTimer, StoreError};

use super::{
    Session, Sqlite,
    columns::{in_micros, micros, now, time},
    error::classify,
    rows::{Read, list},
};
use crate::columns;

const TIMERS: &str = "DELETE FROM saga_timer WHERE (saga_id, step, kind) IN (SELECT saga_id, step, kind \
    FROM saga_timer WHERE due <= ?1 ORDER BY due LIMIT ?2) RETURNING saga_id, step, kind, due, traceparent, tracestate";
const POSTPONE: &str = "UPDATE saga_timer SET due = ?5 WHERE saga_id = ?1 AND step = ?2 AND kind = ?3 AND due = ?4";

impl Sqlite {
    pub(crate) async fn begin_due(
        &self,
        limit: i64,
        _patience: Duration,
    ) -> Result<(Session, Vec<DueTimer>), StoreError> {
        let session = self.begin().await?;
        let mut timers = session.with(|conn| list(conn, TIMERS, params![micros(now()), limit], due_timer))??;
        timers.sort_by_key(|timer| timer.due);
        Ok((session, timers))
    }

    pub(crate) async fn postpone(&self, timers: &[DueTimer], after: Duration) -> Result<(), StoreError> {
        let session = self.begin().await?;
        session.with(|conn| {
            let postpone = || {
                for timer in timers {
                    let (kind, due) = (timer.kind.name(), micros(timer.due));
                    let armed = params![timer.saga_id.to_string(), timer.step, kind, due, in_micros(after)];
                    conn.prepare_cached(POSTPONE)?.execute(armed)?;
                }
                conn.execute_batch("COMMIT")
            };
            postpone().map_err(|error| classify(&error))
        })?
    }
}

fn due_timer(row: &Row<'_>) -> Read<DueTimer> {
    Ok(DueTimer {
        saga_id: columns::read_saga_id(&row.get::<_, String>(0)?)?,
        step: row.get(1)?,
        kind: columns::read_timer_kind(&row.get::<_, String>(2)?)?,
        due: time(row.get(3)?)?,
        trace: columns::trace(row.get(4)?, row.get(5)?),
    })
}

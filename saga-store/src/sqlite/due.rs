//! What is due on SQLite: parked heads, timers, outbox rows; and the figures for metrics.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use saga_core::{
    record::Record,
    store::{DueTimer, OutboxRow, ParkedEvent, ParkedLabel, StoreError, Summary, Unsent},
};

use super::{
    Session, Sqlite, commit,
    error::classify,
    schema::{in_micros, micros, now, time},
};
use crate::marks;

const CLAIM: &str = "UPDATE saga_parked SET due = ?2 WHERE seq IN (SELECT seq FROM saga_parked WHERE due <= ?1 \
    AND ((step IN (SELECT value FROM json_each(?4))) IS NOT TRUE OR op = 'compensate' AND failed_at IS NULL) \
    ORDER BY due, seq LIMIT ?3) \
    RETURNING seq, saga_id, attempts, failed_at, topic, topic_partition, topic_offset, key, value, headers";
const UNLABELLED: &str = "SELECT seq, saga_id, attempts, failed_at, topic, topic_partition, topic_offset, key, value, headers \
    FROM saga_parked WHERE cause IS NULL ORDER BY seq LIMIT ?1";
const LABEL: &str = "UPDATE saga_parked SET cause = ?2, step = ?3, op = ?4 WHERE seq = ?1";
/// One that waits behind what it undoes.
const RELEASE: &str = "UPDATE saga_parked AS c SET due = 0 WHERE seq = ?1 AND op = 'compensate' AND due IS NULL AND NOT held \
    AND EXISTS (SELECT 1 FROM saga_parked a WHERE a.saga_id = c.saga_id AND a.step = c.step AND a.op = 'action')";
const TIMERS: &str = "DELETE FROM saga_timer WHERE (saga_id, step) IN (SELECT saga_id, step FROM saga_timer \
    WHERE due <= ?1 ORDER BY due LIMIT ?2) RETURNING saga_id, step, due, traceparent, tracestate";
const NEXT_DUE: &str = "SELECT min(due) FROM (SELECT min(due) AS due FROM saga_parked WHERE due IS NOT NULL \
    UNION ALL SELECT min(due) FROM saga_timer)";
const UNSENT: &str =
    "SELECT seq, id, aggregateid, created_at > ?2 FROM saga_outbox WHERE seq > ?1 ORDER BY seq LIMIT ?3";
const ROWS: &str = "SELECT id, aggregateid, type, topic, payload, headers, tracingspancontext, created_at \
    FROM saga_outbox WHERE id IN (SELECT value FROM json_each(?1)) ORDER BY seq";
const POSTPONE: &str = "UPDATE saga_timer SET due = ?4 WHERE saga_id = ?1 AND step = ?2 AND due = ?3";
/// As on PostgreSQL.
const SUMMARY: &str = "SELECT (SELECT count(*) FROM (SELECT seq FROM saga_outbox LIMIT ?1)), \
    (SELECT created_at FROM saga_outbox ORDER BY seq LIMIT 1), \
    (SELECT count(*) FROM (SELECT due FROM saga_parked WHERE due IS NOT NULL LIMIT ?1)), \
    (SELECT count(DISTINCT saga_id) FROM (SELECT saga_id FROM saga_parked WHERE held LIMIT ?1)), \
    (SELECT min(failed_at) FROM saga_parked WHERE failed_at IS NOT NULL AND due IS NOT NULL AND NOT held), \
    (SELECT count(*) FROM (SELECT due FROM saga_timer LIMIT ?1)), \
    (SELECT count(*) FROM (SELECT begun_at FROM saga_progress WHERE ended_at IS NULL LIMIT ?1)), \
    (SELECT min(begun_at) FROM saga_progress WHERE ended_at IS NULL)";

impl Sqlite {
    pub(crate) fn time(&self) -> Timestamp {
        now()
    }

    pub(crate) async fn claim_parked(
        &self,
        lease: Duration,
        limit: i64,
        resting: &[&str],
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        let resting = serde_json::json!(resting).to_string();
        let session = self.begin().await?;
        let mut claimed = session.with(|conn| {
            let claimed = list(conn, CLAIM, params![micros(now()), in_micros(lease), limit, resting], parked_event)?;
            conn.execute_batch("COMMIT").map_err(|error| classify(&error))?;
            Ok::<_, StoreError>(claimed)
        })??;
        claimed.sort_by_key(|event| event.seq);
        Ok(claimed)
    }

    pub(crate) fn unlabelled_parked(&self, limit: i64) -> Result<Vec<ParkedEvent>, StoreError> {
        self.read(|conn| list(conn, UNLABELLED, params![limit], parked_event))
    }

    pub(crate) async fn label_parked(&self, labels: &[ParkedLabel]) -> Result<(), StoreError> {
        let session = self.begin().await?;
        session.with(|conn| {
            let label = || {
                for ParkedLabel { seq, cause, step, op } in labels {
                    conn.prepare_cached(LABEL)?.execute(params![seq, cause.to_string(), step, marks::op(*op)])?;
                }
                for label in labels {
                    conn.prepare_cached(RELEASE)?.execute(params![label.seq])?;
                }
                conn.execute_batch("COMMIT")
            };
            label().map_err(|error| classify(&error))
        })?
    }

    pub(crate) async fn begin_due(&self, limit: i64) -> Result<(Session, Vec<DueTimer>), StoreError> {
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
                    let armed = params![timer.saga_id.to_string(), timer.step, micros(timer.due), in_micros(after)];
                    conn.prepare_cached(POSTPONE)?.execute(armed)?;
                }
                conn.execute_batch("COMMIT")
            };
            postpone().map_err(|error| classify(&error))
        })?
    }

    pub(crate) fn next_due(&self) -> Result<Option<Duration>, StoreError> {
        self.read(|conn| {
            let due: Option<i64> = conn
                .prepare_cached(NEXT_DUE)
                .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
                .map_err(|error| classify(&error))?;
            let left = |due: Timestamp| Duration::try_from(due.duration_since(now())).unwrap_or_default();
            Ok(due.map(time).transpose()?.map(left))
        })
    }

    pub(crate) fn unsent(&self, behind: i64, grace: Duration, limit: i64) -> Result<Vec<Unsent>, StoreError> {
        let old = now().checked_sub(grace).unwrap_or(Timestamp::MIN);
        self.read(|conn| list(conn, UNSENT, params![behind, micros(old), limit], unsent))
    }

    pub(crate) fn outbox(&self, ids: &[uuid::Uuid]) -> Result<Vec<OutboxRow>, StoreError> {
        let ids = serde_json::Value::from_iter(ids.iter().map(uuid::Uuid::to_string)).to_string();
        self.read(|conn| list(conn, ROWS, params![ids], outbox_row))
    }

    pub(crate) async fn mark_sent(&self, ids: &[uuid::Uuid]) -> Result<(), StoreError> {
        let session = self.begin().await?;
        session.with(|conn| {
            commit::forget_sent(conn, ids).and_then(|()| conn.execute_batch("COMMIT")).map_err(|error| classify(&error))
        })?
    }

    pub(crate) fn summary(&self) -> Result<Summary, StoreError> {
        self.read(|conn| {
            let mut found = list(conn, SUMMARY, params![marks::COUNTED], |row| {
                let at = |column: usize| -> Read<Option<Timestamp>> {
                    Ok(row.get::<_, Option<i64>>(column)?.map(time).transpose()?)
                };
                let count = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
                Ok(Summary {
                    outbox_pending: count(0)?,
                    outbox_oldest: at(1)?,
                    parked_sagas: count(2)?,
                    blocked_sagas: count(3)?,
                    parked_oldest: at(4)?,
                    timers: count(5)?,
                    unfinished_sagas: count(6)?,
                    unfinished_oldest: at(7)?,
                    at: Some(now()),
                })
            })?;
            Ok(found.pop().unwrap_or_default())
        })
    }
}

/// Why a row cannot be read: what SQLite says, or what stands in it.
pub(super) enum ReadError {
    Sql(rusqlite::Error),
    Value(StoreError),
}

pub(super) type Read<T> = Result<T, ReadError>;

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Value(error)
    }
}

pub(super) fn list<T>(
    conn: &Connection,
    sql: &str,
    params: &[&dyn rusqlite::ToSql],
    read: impl Fn(&Row<'_>) -> Read<T>,
) -> Result<Vec<T>, StoreError> {
    let run = || -> Read<Vec<T>> {
        let mut statement = conn.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut list = Vec::new();
        while let Some(row) = rows.next()? {
            list.push(read(row)?);
        }
        Ok(list)
    };
    run().map_err(|error| match error {
        ReadError::Sql(error) => classify(&error),
        ReadError::Value(error) => error,
    })
}

fn parked_event(row: &Row<'_>) -> Read<ParkedEvent> {
    Ok(ParkedEvent {
        seq: row.get(0)?,
        saga_id: marks::read_saga_id(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?,
        attempts: row.get(2)?,
        failed_at: row.get::<_, Option<i64>>(3)?.map(time).transpose()?,
        record: Record {
            topic: row.get::<_, String>(4)?.into(),
            partition: row.get(5)?,
            offset: row.get(6)?,
            key: row.get(7)?,
            value: row.get(8)?,
            headers: marks::read_headers(&row.get::<_, String>(9)?)?,
        },
    })
}

fn due_timer(row: &Row<'_>) -> Read<DueTimer> {
    Ok(DueTimer {
        saga_id: marks::read_saga_id(&row.get::<_, String>(0)?)?,
        step: row.get(1)?,
        due: time(row.get(2)?)?,
        trace: marks::trace(row.get(3)?, row.get(4)?),
    })
}

fn event_id(text: &str) -> Read<uuid::Uuid> {
    Ok(text.parse().map_err(|_| StoreError::Broken(format!("{text:?} is not an event id")))?)
}

fn unsent(row: &Row<'_>) -> Read<Unsent> {
    Ok(Unsent {
        seq: row.get(0)?,
        id: event_id(&row.get::<_, String>(1)?)?,
        saga_id: marks::read_saga_id(&row.get::<_, String>(2)?)?,
        young: row.get(3)?,
    })
}

fn outbox_row(row: &Row<'_>) -> Read<OutboxRow> {
    let id = event_id(&row.get::<_, String>(0)?)?;
    let (context, created_at): (Option<String>, _) = (row.get(6)?, time(row.get(7)?)?);
    let headers: String = row.get(5)?;
    let (saga_id, event_type, topic, payload): (String, _, _, _) = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
    Ok(marks::outbox_row(id, &saga_id, event_type, topic, payload, (&headers, context.as_deref()), created_at)?)
}

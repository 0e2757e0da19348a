//! What is due on PostgreSQL: parked heads, timers, outbox rows; and the figures for metrics.

use std::time::Duration;

use jiff::Timestamp;
use saga_core::{
    record::Record,
    store::{DueTimer, OutboxRow, ParkedEvent, ParkedLabel, StoreError, Summary, Unsent},
};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    Postgres,
    commit::SENT,
    error::classify,
    pool::User,
    session::{Opening, Session},
    time::{Micros, seconds},
};
use crate::marks;

/// Only a head that is not held has a time. One that another process is just leasing is skipped, and one that it has
/// leased is no longer due once its row is locked.
const CLAIM: &str = "
UPDATE saga_parked SET due = now() + make_interval(secs => $1) WHERE seq = ANY(ARRAY(
    SELECT seq FROM saga_parked
    WHERE due <= now() AND ((step = ANY($3::text[])) IS NOT TRUE OR op = 'compensate' AND failed_at IS NULL)
    ORDER BY due, seq LIMIT $2 FOR UPDATE SKIP LOCKED))
RETURNING seq, saga_id, attempts, failed_at, topic, topic_partition, topic_offset, key, value, headers";
/// Nothing is due where the mark of the transaction is missing: see [`Opening`].
const UNLABELLED: &str = "
SELECT seq, saga_id, attempts, failed_at, topic, topic_partition, topic_offset, key, value, headers
FROM saga_parked WHERE cause IS NULL ORDER BY seq LIMIT $1";
/// A compensation that waits behind its own action, which is labelled already or in the same statement, is due.
const LABEL: &str = "
WITH l AS MATERIALIZED (
    SELECT l.*, p.saga_id FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[]) AS l(seq, cause, step, op),
    LATERAL (SELECT saga_id FROM saga_parked p WHERE p.seq = l.seq OFFSET 0) p)
UPDATE saga_parked p SET cause = l.cause, step = l.step, op = l.op,
    due = CASE WHEN l.op = 'compensate' AND p.due IS NULL AND NOT p.held AND (
        EXISTS (SELECT FROM l a WHERE a.saga_id = l.saga_id AND a.step = l.step AND a.op = 'action')
        OR EXISTS (SELECT FROM saga_parked a WHERE a.saga_id = l.saga_id AND a.step = l.step AND a.op = 'action'))
    THEN 'epoch' ELSE p.due END
FROM l WHERE p.seq = l.seq";
const TIMERS: &str = "
DELETE FROM saga_timer WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM saga_timer WHERE due <= now() AND current_setting('saga.tx', true) = $2 ORDER BY due LIMIT $1 FOR UPDATE SKIP LOCKED))
RETURNING saga_id, step, due, traceparent, tracestate";
const POSTPONE: &str = "
UPDATE saga_timer SET due = now() + make_interval(secs => $4) WHERE ctid = ANY(ARRAY(
    SELECT t.at FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS p(saga_id, step, due), LATERAL (
        SELECT ctid AS at FROM saga_timer t WHERE t.saga_id = p.saga_id AND t.step = p.step AND t.due = p.due OFFSET 0) t))";
const NEXT_DUE: &str = "
SELECT extract(epoch FROM least((SELECT min(due) FROM saga_parked WHERE due IS NOT NULL), (SELECT min(due) FROM saga_timer)) - now())::float8";
/// A page of a walk, without what is large. Row after row, through the index: however many there are, a page costs the same.
const UNSENT: &str = "
SELECT seq, id, aggregateid, created_at > clock_timestamp() - make_interval(secs => $2) FROM saga_outbox
WHERE seq > $1 ORDER BY seq LIMIT $3";
const ROWS: &str = "
SELECT id, aggregateid, type, topic, payload, headers, tracingspancontext, created_at FROM saga_outbox
WHERE id = ANY($1::uuid[]) ORDER BY seq";
/// No count goes beyond the most that is told, and each oldest stands first in an index: however large the tables are.
const SUMMARY: &str = "
SELECT (SELECT count(*) FROM (SELECT FROM saga_outbox ORDER BY seq LIMIT $1) AS few),
    (SELECT created_at FROM saga_outbox ORDER BY seq LIMIT 1),
    (SELECT count(*) FROM (SELECT FROM saga_parked WHERE due IS NOT NULL ORDER BY due LIMIT $1) AS few),
    (SELECT count(DISTINCT saga_id) FROM (SELECT saga_id FROM saga_parked WHERE held ORDER BY saga_id LIMIT $1) AS few),
    (SELECT min(failed_at) FROM saga_parked WHERE failed_at IS NOT NULL AND due IS NOT NULL AND NOT held),
    (SELECT count(*) FROM (SELECT FROM saga_timer ORDER BY due LIMIT $1) AS few),
    (SELECT count(*) FROM (SELECT FROM saga_progress WHERE ended_at IS NULL ORDER BY begun_at LIMIT $1) AS few),
    (SELECT min(begun_at) FROM saga_progress WHERE ended_at IS NULL),
    clock_timestamp()";

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[CLAIM, TIMERS, POSTPONE, UNSENT, ROWS];
/// Reads the beginning of indexes that it gives no condition for.
#[cfg(test)]
pub(super) const MEASURE: &str = SUMMARY;
#[cfg(test)]
pub(super) const WALK: &str = UNSENT;

impl Postgres {
    pub(crate) async fn time(&self) -> Result<Timestamp, StoreError> {
        let session = self.pool.lease(User::Request).await?;
        let rows = run(&session, "SELECT clock_timestamp()", &[]).await?;
        let told = list(&rows, |row| Ok(row.try_get::<_, Micros>(0)?.time()?))?.pop();
        told.ok_or_else(|| StoreError::Broken("the database does not tell the time".into()))
    }

    pub(crate) async fn claim_parked(
        &self,
        lease: Duration,
        limit: i64,
        resting: &[&str],
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        let session = self.pool.lease(User::Worker).await?;
        let rows = run(&session, CLAIM, &[&seconds(lease), &limit, &resting]).await?;
        let mut claimed = list(&rows, parked_event)?;
        claimed.sort_by_key(|event| event.seq);
        Ok(claimed)
    }

    pub(crate) async fn unlabelled_parked(&self, limit: i64) -> Result<Vec<ParkedEvent>, StoreError> {
        let session = self.pool.lease(User::Worker).await?;
        list(&run(&session, UNLABELLED, &[&limit]).await?, parked_event)
    }

    pub(crate) async fn label_parked(&self, labels: &[ParkedLabel]) -> Result<(), StoreError> {
        let session = self.pool.lease(User::Worker).await?;
        let seqs: Vec<i64> = labels.iter().map(|label| label.seq).collect();
        let causes: Vec<Uuid> = labels.iter().map(|label| label.cause).collect();
        let steps: Vec<&str> = labels.iter().map(|label| label.step).collect();
        let ops: Vec<&str> = labels.iter().map(|label| marks::op(label.op)).collect();
        run(&session, LABEL, &[&seqs, &causes, &steps, &ops]).await.map(|_| ())
    }

    pub(crate) async fn begin_due(
        &self,
        limit: i64,
        patience: Duration,
    ) -> Result<(Session, Vec<DueTimer>), StoreError> {
        let session = self.pool.lease(User::Worker).await?;
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
        let session = self.pool.lease(User::Worker).await?;
        let sagas: Vec<Uuid> = timers.iter().map(|timer| timer.saga_id.as_uuid()).collect();
        let steps: Vec<&str> = timers.iter().map(|timer| timer.step.as_str()).collect();
        let due: Vec<Micros> = timers.iter().map(|timer| timer.due.into()).collect();
        run(&session, POSTPONE, &[&sagas, &steps, &due, &seconds(after)]).await.map(|_| ())
    }

    pub(crate) async fn next_due(&self) -> Result<Option<Duration>, StoreError> {
        let session = self.pool.lease(User::Worker).await?;
        let rows = run(&session, NEXT_DUE, &[]).await?;
        let left = list(&rows, |row| Ok(row.try_get::<_, Option<f64>>(0)?))?.pop().flatten();
        Ok(left.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
    }

    pub(crate) async fn unsent(&self, behind: i64, grace: Duration, limit: i64) -> Result<Vec<Unsent>, StoreError> {
        let session = self.pool.lease(User::Worker).await?;
        list(&run(&session, UNSENT, &[&behind, &seconds(grace), &limit]).await?, unsent)
    }

    pub(crate) async fn outbox(&self, ids: &[Uuid]) -> Result<Vec<OutboxRow>, StoreError> {
        let session = self.pool.lease(User::Worker).await?;
        list(&run(&session, ROWS, &[&ids]).await?, outbox_row)
    }

    pub(crate) async fn mark_sent(&self, ids: &[Uuid]) -> Result<(), StoreError> {
        let session = self.pool.lease(User::Worker).await?;
        run(&session, SENT, &[&ids]).await.map(|_| ())
    }

    pub(crate) async fn summary(&self) -> Result<Summary, StoreError> {
        let session = self.pool.lease(User::Request).await?;
        let rows = run(&session, SUMMARY, &[&marks::COUNTED]).await?;
        let mut found = list(&rows, |row| {
            let count = |column: usize| row.try_get::<_, i64>(column).map(i64::unsigned_abs);
            Ok(Summary {
                outbox_pending: count(0)?,
                outbox_oldest: time(row.try_get(1)?)?,
                parked_sagas: count(2)?,
                blocked_sagas: count(3)?,
                parked_oldest: time(row.try_get(4)?)?,
                timers: count(5)?,
                unfinished_sagas: count(6)?,
                unfinished_oldest: time(row.try_get(7)?)?,
                at: time(row.try_get(8)?)?,
            })
        })?;
        Ok(found.pop().unwrap_or_default())
    }
}

/// Runs one statement of our own, which is a transaction by itself.
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

fn time(micros: Option<Micros>) -> Result<Option<Timestamp>, ReadError> {
    Ok(micros.map(Micros::time).transpose()?)
}

fn parked_event(row: &Row) -> Result<ParkedEvent, ReadError> {
    let attempts: i64 = row.try_get(2)?;
    Ok(ParkedEvent {
        seq: row.try_get(0)?,
        saga_id: row.try_get::<_, Uuid>(1)?.into(),
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        failed_at: time(row.try_get(3)?)?,
        record: Record {
            topic: row.try_get::<_, &str>(4)?.into(),
            partition: row.try_get(5)?,
            offset: row.try_get(6)?,
            key: row.try_get(7)?,
            value: row.try_get(8)?,
            headers: marks::read_headers(row.try_get(9)?)?,
        },
    })
}

fn due_timer(row: &Row) -> Result<DueTimer, ReadError> {
    Ok(DueTimer {
        saga_id: row.try_get::<_, Uuid>(0)?.into(),
        step: row.try_get(1)?,
        due: row.try_get::<_, Micros>(2)?.time()?,
        trace: marks::trace(row.try_get(3)?, row.try_get(4)?),
    })
}

fn unsent(row: &Row) -> Result<Unsent, ReadError> {
    Ok(Unsent {
        seq: row.try_get(0)?,
        id: row.try_get(1)?,
        saga_id: marks::read_saga_id(row.try_get(2)?)?,
        young: row.try_get(3)?,
    })
}

fn outbox_row(row: &Row) -> Result<OutboxRow, ReadError> {
    let created_at = row.try_get::<_, Micros>(7)?.time()?;
    Ok(marks::outbox_row(
        row.try_get(0)?,
        row.try_get(1)?,
        row.try_get(2)?,
        row.try_get(3)?,
        row.try_get(4)?,
        (row.try_get(5)?, row.try_get(6)?),
        created_at,
    )?)
}

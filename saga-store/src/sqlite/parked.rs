//! Parked sagas on SQLite: claiming their heads, and changes of their queues.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};
use saga_core::{
    record::Record,
    store::{ParkChange, ParkedEvent, ParkedLabel, Parking, StoreError},
};

use super::{
    Sqlite,
    columns::{in_micros, micros, now, time},
    error::classify,
    rows::{Read, list},
};
use crate::columns;

const CLAIM: &str = "UPDATE saga_parked SET due = ?2 WHERE seq IN (SELECT seq FROM saga_parked WHERE due <= ?1 \
    AND ((step IN (SELECT value FROM json_each(?4))) IS NOT TRUE OR op = 'compensate' AND failed_at IS NULL) \
    ORDER BY due, seq LIMIT ?3) \
    RETURNING seq, saga_id, attempts, failed_at, round, topic, topic_partition, topic_offset, key, value, headers";
const UNLABELLED: &str = "SELECT seq, saga_id, attempts, failed_at, round, topic, topic_partition, topic_offset, key, value, headers \
    FROM saga_parked WHERE cause IS NULL ORDER BY seq LIMIT ?1";
const LABEL: &str = "UPDATE saga_parked SET cause = ?2, step = ?3, op = ?4 WHERE seq = ?1";
/// Makes a compensation due that waits behind its own action.
const RELEASE: &str = "UPDATE saga_parked AS c SET due = 0 WHERE seq = ?1 AND op = 'compensate' AND due IS NULL AND NOT held \
    AND EXISTS (SELECT 1 FROM saga_parked a WHERE a.saga_id = c.saga_id AND a.step = c.step AND a.op = 'action')";
const HEAD: &str = "SELECT min(seq) FROM saga_parked WHERE saga_id = ?1 AND NOT aside";
/// The same event from the same offset is a redelivery and changes nothing; from another offset it was published again,
/// and replaces the row.
const KNOWN: &str = "SELECT seq, topic = ?3 AND topic_partition = ?4 AND topic_offset = ?5 OR aside, due IS NULL, round \
    FROM saga_parked \
    WHERE saga_id = ?1 AND cause = ?2";
const PUT: &str = "INSERT OR REPLACE INTO saga_parked (seq, saga_id, cause, event_id, step, op, topic, topic_partition, \
    topic_offset, key, value, headers, attempts, failed_at, held, reason, due, aside, round) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)";
const RETRY: &str = "UPDATE saga_parked SET attempts = ?2, due = ?3, failed_at = ?4, reason = ?5 \
    WHERE seq = ?1 AND (op = ?6 OR step = '') AND round = coalesce(?7, round) AND NOT held";
const AGAIN: &str = "UPDATE saga_parked SET aside = true, round = ?4, due = ?5, attempts = 0, failed_at = NULL, held = false, \
    reason = 'waits for its next round' WHERE seq = ?1 AND (op = ?2 OR step = '') AND round = coalesce(?3, round)";
const HOLD: &str = "UPDATE saga_parked SET held = true, due = NULL, aside = false, reason = ?2 \
    WHERE seq = ?1 AND (op = ?3 OR step = '') AND round = coalesce(?4, round)";
const REMOVE: &str = "DELETE FROM saga_parked \
    WHERE seq = ?1 AND (op = ?2 OR step = '') AND round = coalesce(?3, round) RETURNING saga_id";
/// Makes the new head due; 1970 is past by any clock.
const PROMOTE: &str = "UPDATE saga_parked SET due = 0 WHERE NOT held AND due IS NULL \
    AND seq = (SELECT min(seq) FROM saga_parked WHERE saga_id = ?1 AND NOT aside)";

impl Sqlite {
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

    pub(crate) async fn unlabelled_parked(&self, limit: i64) -> Result<Vec<ParkedEvent>, StoreError> {
        self.read(|conn| list(conn, UNLABELLED, params![limit], parked_event))
    }

    pub(crate) async fn label_parked(&self, labels: &[ParkedLabel]) -> Result<(), StoreError> {
        let session = self.begin().await?;
        session.with(|conn| {
            let label = || {
                for ParkedLabel { seq, cause, step, op } in labels {
                    conn.prepare_cached(LABEL)?.execute(params![seq, cause.to_string(), step, columns::op(*op)])?;
                }
                for label in labels {
                    conn.prepare_cached(RELEASE)?.execute(params![label.seq])?;
                }
                conn.execute_batch("COMMIT")
            };
            label().map_err(|error| classify(&error))
        })?
    }
}

pub(super) fn change(conn: &Connection, change: &ParkChange) -> rusqlite::Result<()> {
    match change {
        ParkChange::Append(parking) => append(conn, parking)?,
        // `PUT` replaces the action's row by `seq`, and the compensation's own by its cause.
        ParkChange::Overtake { seq, by } => put(conn, Some(*seq), by, (false, by.round))?,
        ParkChange::Retry { at, attempts, pause, failed_at, reason } => {
            let (due, failed_at) = (in_micros(*pause), micros(*failed_at));
            let values =
                params![at.seq, attempts, due, failed_at, columns::clean(reason), columns::op(at.op), at.round];
            conn.prepare_cached(RETRY)?.execute(values)?;
        }
        ParkChange::Again { at, round, pause } => {
            let values = params![at.seq, columns::op(at.op), at.round, round, in_micros(*pause)];
            conn.prepare_cached(AGAIN)?.execute(values)?;
            conn.prepare_cached(PROMOTE)?.execute(params![at.saga_id.to_string()])?;
        }
        ParkChange::Block { at, reason } => {
            let values = params![at.seq, columns::clean(reason), columns::op(at.op), at.round];
            conn.prepare_cached(HOLD)?.execute(values)?;
        }
        ParkChange::Remove { at } => {
            let gone = params![at.seq, columns::op(at.op), at.round];
            let saga: Option<String> = conn.prepare_cached(REMOVE)?.query_row(gone, |row| row.get(0)).optional()?;
            if let Some(saga) = saga {
                conn.prepare_cached(PROMOTE)?.execute(params![saga])?;
            }
        }
    }
    Ok(())
}

fn append(conn: &Connection, parking: &Parking) -> rusqlite::Result<()> {
    let (saga, cause, record) = (parking.saga_id.to_string(), parking.cause.to_string(), &parking.record);
    let head: Option<i64> = conn.prepare_cached(HEAD)?.query_row(params![saga], |row| row.get(0))?;
    let place = params![saga, cause, record.topic.as_ref(), record.partition, record.offset];
    let known = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    let known: Option<(i64, bool, bool, u32)> = conn.prepare_cached(KNOWN)?.query_row(place, known).optional()?;
    match known {
        Some((_, true, ..)) => Ok(()),
        Some((seq, false, waits, round)) => put(conn, Some(seq), parking, (waits && head != Some(seq), round)),
        None => put(conn, None, parking, (head.is_some() && !parking.aside, parking.round)),
    }
}

fn put(conn: &Connection, seq: Option<i64>, parking: &Parking, (waits, round): (bool, u32)) -> rusqlite::Result<()> {
    let record = &parking.record;
    conn.prepare_cached(PUT)?.execute(params![
        seq,
        parking.saga_id.to_string(),
        parking.cause.to_string(),
        parking.event_id,
        parking.step,
        columns::op(parking.op),
        record.topic.as_ref(),
        record.partition,
        record.offset,
        record.key,
        record.value,
        columns::headers(&record.headers),
        parking.attempts,
        parking.failed_at.map(micros),
        parking.blocked,
        columns::clean(&parking.reason),
        (!waits && !parking.blocked).then(|| in_micros(parking.pause)),
        parking.aside,
        round,
    ])?;
    Ok(())
}

fn parked_event(row: &Row<'_>) -> Read<ParkedEvent> {
    Ok(ParkedEvent {
        seq: row.get(0)?,
        saga_id: columns::read_saga_id(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?,
        attempts: row.get(2)?,
        failed_at: row.get::<_, Option<i64>>(3)?.map(time).transpose()?,
        round: columns::read_round(row.get(4)?),
        record: Record {
            topic: row.get::<_, String>(5)?.into(),
            partition: row.get(6)?,
            offset: row.get(7)?,
            key: row.get(8)?,
            value: row.get(9)?,
            headers: columns::read_headers(&row.get::<_, String>(10)?)?,
        },
    })
}

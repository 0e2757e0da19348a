//! Figures of the framework's tables on SQLite, and its clock.

use jiff::Timestamp;
use rusqlite::params;
use saga_core::store::{StoreError, Summary};

use super::{
    Sqlite,
    columns::{now, time},
    rows::{Read, list},
};
use crate::columns;

/// As on PostgreSQL.
const SUMMARY: &str = "SELECT (SELECT count(*) FROM (SELECT seq FROM saga_outbox LIMIT ?1)), \
    (SELECT created_at FROM saga_outbox ORDER BY seq LIMIT 1), \
    (SELECT count(*) FROM (SELECT due FROM saga_parked \
        WHERE due IS NOT NULL AND (NOT aside OR failed_at IS NOT NULL) LIMIT ?1)), \
    (SELECT count(DISTINCT saga_id) FROM (SELECT saga_id FROM saga_parked WHERE held LIMIT ?1)), \
    (SELECT min(failed_at) FROM saga_parked WHERE failed_at IS NOT NULL AND due IS NOT NULL AND NOT held), \
    (SELECT count(*) FROM (SELECT step FROM saga_failed_compensation LIMIT ?1)), \
    (SELECT count(*) FROM (SELECT due FROM saga_timer LIMIT ?1)), \
    (SELECT count(*) FROM (SELECT begun_at FROM saga_progress WHERE ended_at IS NULL LIMIT ?1)), \
    (SELECT min(begun_at) FROM saga_progress WHERE ended_at IS NULL)";

impl Sqlite {
    pub(crate) async fn time(&self) -> Result<Timestamp, StoreError> {
        Ok(now())
    }

    pub(crate) async fn summary(&self) -> Result<Summary, StoreError> {
        self.read(|conn| {
            let mut found = list(conn, SUMMARY, params![columns::COUNTED], |row| {
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
                    failed_compensations: count(5)?,
                    timers: count(6)?,
                    unfinished_sagas: count(7)?,
                    unfinished_oldest: at(8)?,
                    at: Some(now()),
                })
            })?;
            Ok(found.pop().unwrap_or_default())
        })
    }
}

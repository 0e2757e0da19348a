//! Figures of the framework's tables on PostgreSQL, and its clock.

use jiff::Timestamp;
use saga_core::store::{StoreError, Summary};

use super::{
    Postgres,
    pool::User,
    rows::{list, run, time},
    time::Micros,
};
use crate::columns;

/// Counts stop at a limit, and each oldest row comes first in an index: the cost does not depend on the tables' sizes.
pub(super) const SUMMARY: &str = "
SELECT (SELECT count(*) FROM (SELECT FROM saga_outbox ORDER BY seq LIMIT $1) AS few),
    (SELECT created_at FROM saga_outbox ORDER BY seq LIMIT 1),
    (SELECT count(*) FROM (SELECT FROM saga_parked
        WHERE due IS NOT NULL AND (NOT aside OR failed_at IS NOT NULL) ORDER BY due LIMIT $1) AS few),
    (SELECT count(DISTINCT saga_id) FROM (SELECT saga_id FROM saga_parked WHERE held ORDER BY saga_id LIMIT $1) AS few),
    (SELECT min(failed_at) FROM saga_parked WHERE failed_at IS NOT NULL AND due IS NOT NULL AND NOT held),
    (SELECT count(*) FROM (SELECT FROM saga_failed_compensation ORDER BY saga_id, step LIMIT $1) AS few),
    (SELECT count(*) FROM (SELECT FROM saga_timer ORDER BY due LIMIT $1) AS few),
    (SELECT count(*) FROM (SELECT FROM saga_progress WHERE ended_at IS NULL ORDER BY begun_at LIMIT $1) AS few),
    (SELECT min(begun_at) FROM saga_progress WHERE ended_at IS NULL),
    clock_timestamp()";

impl Postgres {
    pub(crate) async fn time(&self) -> Result<Timestamp, StoreError> {
        let session = self.session(User::Request).await?;
        let rows = run(&session, "SELECT clock_timestamp()", &[]).await?;
        let time = list(&rows, |row| Ok(row.try_get::<_, Micros>(0)?.time()?))?.pop();
        time.ok_or_else(|| StoreError::Broken("the database does not tell the time".into()))
    }

    pub(crate) async fn summary(&self) -> Result<Summary, StoreError> {
        let session = self.session(User::Request).await?;
        let rows = run(&session, SUMMARY, &[&columns::COUNTED]).await?;
        let mut found = list(&rows, |row| {
            let count = |column: usize| row.try_get::<_, i64>(column).map(i64::unsigned_abs);
            Ok(Summary {
                outbox_pending: count(0)?,
                outbox_oldest: time(row.try_get(1)?)?,
                parked_sagas: count(2)?,
                blocked_sagas: count(3)?,
                parked_oldest: time(row.try_get(4)?)?,
                failed_compensations: count(5)?,
                timers: count(6)?,
                unfinished_sagas: count(7)?,
                unfinished_oldest: time(row.try_get(8)?)?,
                at: time(row.try_get(9)?)?,
            })
        })?;
        Ok(found.pop().unwrap_or_default())
    }
}

//! The steps that a participant has declared to SQLite.

use rusqlite::params;
use saga_core::store::{DeclaredStep, StoreError};

use super::{Sqlite, error::classify, rows::list};
use crate::columns;

const STEPS: &str = "SELECT name, triggers FROM saga_step ORDER BY name";
const DECLARE: &str = "INSERT INTO saga_step (name, triggers) VALUES (?1, ?2) \
    ON CONFLICT (name) DO UPDATE SET triggers = excluded.triggers";
/// As on PostgreSQL.
const SAGAS: &str = "SELECT min(?2, (SELECT count(*) FROM ( \
    SELECT saga_id FROM (SELECT saga_id FROM saga_barrier WHERE step = ?1 LIMIT 2 * ?2) \
    UNION SELECT saga_id FROM (SELECT saga_id FROM saga_parked WHERE step = ?1 LIMIT ?2))))";

impl Sqlite {
    pub(crate) async fn declared_steps(&self) -> Result<Vec<DeclaredStep>, StoreError> {
        self.read(|conn| {
            list(conn, STEPS, &[], |row| Ok(columns::declared_step(row.get(0)?, &row.get::<_, String>(1)?)?))
        })
    }

    pub(crate) async fn declare_steps(&self, steps: &[DeclaredStep]) -> Result<(), StoreError> {
        let session = self.begin().await?;
        session.with(|conn| {
            let declare = || {
                for step in steps {
                    conn.prepare_cached(DECLARE)?.execute(params![step.name, columns::triggers(step)])?;
                }
                conn.execute_batch("COMMIT")
            };
            declare().map_err(|error| classify(&error))
        })?
    }

    pub(crate) async fn sagas_of_step(&self, step: &str) -> Result<u64, StoreError> {
        let sagas = self.read(|conn| {
            list(conn, SAGAS, params![step, columns::COUNTED], |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()))
        })?;
        sagas.into_iter().next().ok_or_else(|| StoreError::Broken("the database does not count".into()))
    }
}

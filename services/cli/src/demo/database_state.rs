//! The state in the databases: the participants' tables, the framework's tables and the gateway's charges.

use std::{collections::BTreeMap, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, Row};
use saga_core::barrier::Op;
use uuid::Uuid;

use super::data_dir::DataDir;

/// A database that cannot be read or holds an invalid value.
#[derive(Debug, thiserror::Error)]
#[error("{0}: {1}")]
pub(crate) struct DatabaseStateError(String, String);

/// An order's row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OrderRow {
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) total_cents: Option<i64>,
}

/// A charge recorded by the gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Charge {
    pub(crate) calls: i64,
    pub(crate) captured_cents: i64,
    pub(crate) refunded_cents: i64,
}

/// Units of a SKU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stock {
    pub(crate) available: i64,
    pub(crate) reserved: i64,
}

/// The framework's tables in one participant's database.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct FrameworkTables {
    /// Each barrier row: saga, step and operation, with the event that caused it.
    pub(crate) barrier: BTreeMap<(Uuid, String, Op), Uuid>,
    pub(crate) outbox: i64,
    pub(crate) parked: i64,
}

/// The state of all databases.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct DatabaseState {
    pub(crate) orders: BTreeMap<Uuid, OrderRow>,
    pub(crate) stock: BTreeMap<String, Stock>,
    /// Quantities by order and SKU.
    pub(crate) reservations: BTreeMap<Uuid, BTreeMap<String, i64>>,
    /// Status and amount.
    pub(crate) payments: BTreeMap<Uuid, (String, i64)>,
    pub(crate) charges: BTreeMap<Uuid, Vec<Charge>>,
    /// Status.
    pub(crate) shipments: BTreeMap<Uuid, String>,
    /// By participant.
    pub(crate) tables: BTreeMap<String, FrameworkTables>,
}

impl DatabaseState {
    /// Reads all databases, opened read-only.
    pub(crate) fn read(dir: &DataDir, participants: &[&str]) -> Result<Self, DatabaseStateError> {
        let mut state = Self::default();
        for participant in participants {
            state.tables.insert((*participant).to_owned(), framework_tables(&File::open(&dir.database(participant))?)?);
        }
        File::open(&dir.database("order"))?.each(
            "SELECT order_id, status, reason, total_cents FROM orders",
            |row| {
                let order = OrderRow { status: row.get(1)?, reason: row.get(2)?, total_cents: row.get(3)? };
                state.orders.insert(id(row, 0)?, order);
                Ok(())
            },
        )?;
        let inventory = File::open(&dir.database("inventory"))?;
        inventory.each("SELECT sku, available, reserved FROM stock", |row| {
            state.stock.insert(row.get(0)?, Stock { available: row.get(1)?, reserved: row.get(2)? });
            Ok(())
        })?;
        inventory.each("SELECT order_id, sku, quantity FROM reservations", |row| {
            state.reservations.entry(id(row, 0)?).or_default().insert(row.get(1)?, row.get(2)?);
            Ok(())
        })?;
        File::open(&dir.database("payment"))?.each("SELECT order_id, status, amount_cents FROM payments", |row| {
            state.payments.insert(id(row, 0)?, (row.get(1)?, row.get(2)?));
            Ok(())
        })?;
        let charges = "SELECT order_id, calls, captured_cents, refunded_cents FROM charges";
        File::open(&dir.charges_database())?.each(charges, |row| {
            let charge = Charge { calls: row.get(1)?, captured_cents: row.get(2)?, refunded_cents: row.get(3)? };
            state.charges.entry(id(row, 0)?).or_default().push(charge);
            Ok(())
        })?;
        File::open(&dir.database("shipping"))?.each("SELECT order_id, status FROM shipments", |row| {
            state.shipments.insert(id(row, 0)?, row.get(1)?);
            Ok(())
        })?;
        Ok(state)
    }
}

/// The sagas parked by payment: their number, the most attempts, and the next attempt's time (microseconds since 1970).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ParkedSagas {
    pub(crate) sagas: i64,
    pub(crate) attempts: i64,
    pub(crate) due: i64,
}

impl ParkedSagas {
    /// None when no saga is parked or the database cannot be read now.
    pub(crate) fn by(dir: &DataDir, participant: &str) -> Option<Self> {
        let mut found = None;
        let sql = "SELECT count(DISTINCT saga_id), max(attempts), min(due) FROM saga_parked WHERE due IS NOT NULL";
        let file = File::open(&dir.database(participant)).ok()?;
        file.each(sql, |row| {
            if row.get::<_, i64>(0)? > 0 {
                found = Some(Self { sagas: row.get(0)?, attempts: row.get(1)?, due: row.get(2)? });
            }
            Ok(())
        })
        .ok()?;
        found
    }
}

fn framework_tables(file: &File) -> Result<FrameworkTables, DatabaseStateError> {
    let mut tables = FrameworkTables::default();
    file.each("SELECT saga_id, step, op, cause FROM saga_barrier", |row| {
        let op = if row.get::<_, String>(2)? == "action" { Op::Action } else { Op::Compensate };
        tables.barrier.insert((id(row, 0)?, row.get(1)?, op), id(row, 3)?);
        Ok(())
    })?;
    file.each("SELECT (SELECT count(*) FROM saga_outbox), (SELECT count(*) FROM saga_parked)", |row| {
        (tables.outbox, tables.parked) = (row.get(0)?, row.get(1)?);
        Ok(())
    })?;
    Ok(tables)
}

struct File {
    name: String,
    conn: Connection,
}

impl File {
    fn open(path: &Path) -> Result<Self, DatabaseStateError> {
        let name = path.display().to_string();
        let failed = |error: rusqlite::Error| DatabaseStateError(name.clone(), error.to_string());
        let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
        conn.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
        Ok(Self { name, conn })
    }

    fn each(
        &self,
        sql: &str,
        mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), DatabaseStateError> {
        let mut all = || -> rusqlite::Result<()> {
            let mut statement = self.conn.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                read(row)?;
            }
            Ok(())
        };
        all().map_err(|error| DatabaseStateError(self.name.clone(), error.to_string()))
    }
}

/// A column parsed as an id.
fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::<uuid::Error>::new(error))
    })
}

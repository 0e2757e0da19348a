//! What the databases say: the four participants' own tables, the framework's tables beside them, the gateway's ledger.

use std::{collections::BTreeMap, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, Row};
use saga_core::barrier::Op;
use uuid::Uuid;

use super::dir::DataDir;

/// A database that cannot be read, or says something that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}: {1}")]
pub(crate) struct FactsError(String, String);

/// How an order stands, by its service's table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OrderRow {
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) total_cents: Option<i64>,
}

/// A charge, by the gateway's ledger.
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
pub(crate) struct Books {
    /// Saga, step and half of each barrier row, and the event that made it.
    pub(crate) barrier: BTreeMap<(Uuid, String, Op), Uuid>,
    pub(crate) outbox: i64,
    pub(crate) parked: i64,
}

/// All of it, at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) orders: BTreeMap<Uuid, OrderRow>,
    pub(crate) stock: BTreeMap<String, Stock>,
    /// By order and SKU.
    pub(crate) reservations: BTreeMap<Uuid, BTreeMap<String, i64>>,
    /// Status and amount.
    pub(crate) payments: BTreeMap<Uuid, (String, i64)>,
    pub(crate) charges: BTreeMap<Uuid, Vec<Charge>>,
    /// Statuses.
    pub(crate) shipments: BTreeMap<Uuid, String>,
    /// By participant.
    pub(crate) books: BTreeMap<String, Books>,
}

impl Facts {
    /// Reads everything. Changes nothing: the files are opened for reading only.
    pub(crate) fn read(dir: &DataDir, participants: &[&str]) -> Result<Self, FactsError> {
        let mut facts = Self::default();
        for participant in participants {
            facts.books.insert((*participant).to_owned(), books(&File::open(&dir.database(participant))?)?);
        }
        File::open(&dir.database("order"))?.each(
            "SELECT order_id, status, reason, total_cents FROM orders",
            |row| {
                let order = OrderRow { status: row.get(1)?, reason: row.get(2)?, total_cents: row.get(3)? };
                facts.orders.insert(id(row, 0)?, order);
                Ok(())
            },
        )?;
        let inventory = File::open(&dir.database("inventory"))?;
        inventory.each("SELECT sku, available, reserved FROM stock", |row| {
            facts.stock.insert(row.get(0)?, Stock { available: row.get(1)?, reserved: row.get(2)? });
            Ok(())
        })?;
        inventory.each("SELECT order_id, sku, quantity FROM reservations", |row| {
            facts.reservations.entry(id(row, 0)?).or_default().insert(row.get(1)?, row.get(2)?);
            Ok(())
        })?;
        File::open(&dir.database("payment"))?.each("SELECT order_id, status, amount_cents FROM payments", |row| {
            facts.payments.insert(id(row, 0)?, (row.get(1)?, row.get(2)?));
            Ok(())
        })?;
        let ledger = "SELECT order_id, calls, captured_cents, refunded_cents FROM charges";
        File::open(&dir.ledger())?.each(ledger, |row| {
            let charge = Charge { calls: row.get(1)?, captured_cents: row.get(2)?, refunded_cents: row.get(3)? };
            facts.charges.entry(id(row, 0)?).or_default().push(charge);
            Ok(())
        })?;
        File::open(&dir.database("shipping"))?.each("SELECT order_id, status FROM shipments", |row| {
            facts.shipments.insert(id(row, 0)?, row.get(1)?);
            Ok(())
        })?;
        Ok(facts)
    }
}

/// The sagas that payment has parked: how many, how often the most tried one was tried, and when the next is due
/// (microseconds since 1970).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Parked {
    pub(crate) sagas: i64,
    pub(crate) attempts: i64,
    pub(crate) due: i64,
}

impl Parked {
    /// None when none is, or when the database cannot be asked right now.
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

fn books(file: &File) -> Result<Books, FactsError> {
    let mut books = Books::default();
    file.each("SELECT saga_id, step, op, cause FROM saga_barrier", |row| {
        let op = if row.get::<_, String>(2)? == "action" { Op::Action } else { Op::Compensate };
        books.barrier.insert((id(row, 0)?, row.get(1)?, op), id(row, 3)?);
        Ok(())
    })?;
    file.each("SELECT (SELECT count(*) FROM saga_outbox), (SELECT count(*) FROM saga_parked)", |row| {
        (books.outbox, books.parked) = (row.get(0)?, row.get(1)?);
        Ok(())
    })?;
    Ok(books)
}

struct File {
    name: String,
    conn: Connection,
}

impl File {
    fn open(path: &Path) -> Result<Self, FactsError> {
        let name = path.display().to_string();
        let failed = |error: rusqlite::Error| FactsError(name.clone(), error.to_string());
        let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
        conn.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
        Ok(Self { name, conn })
    }

    fn each(&self, sql: &str, mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<()>) -> Result<(), FactsError> {
        let mut all = || -> rusqlite::Result<()> {
            let mut statement = self.conn.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                read(row)?;
            }
            Ok(())
        };
        all().map_err(|error| FactsError(self.name.clone(), error.to_string()))
    }
}

/// A column as an id.
fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::<uuid::Error>::new(error))
    })
}

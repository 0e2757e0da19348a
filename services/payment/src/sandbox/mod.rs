//! A gateway that stands for the outside system: it has its own ledger and its own transactions.

mod ledger;
mod store;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use futures::future::{BoxFuture, Either, FutureExt, select};
use saga_core::{Namespace, store::StoreError};
use saga_store::{DatabaseUrl, Db, Migration, Misconfigured, Row, Rows, Tx, params};
use serde::Serialize;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::gateway::{Charge, Decision, Gateway, GatewayError, Refund};
use ledger::Entry;
use store::{LOCK, MIGRATIONS, OF_ORDER, OPEN, WRITE};

/// The name of the ledger's schema, and the suffix of its SQLite file.
const NAME: &str = "sandbox_gateway";

/// Decides by the payment method: `tok_declined` is refused, `tok_timeout` fails for good, `tok_flaky` fails twice and then
/// charges, everything else charges.
///
/// Calls that wait while a transaction is in flight share the next one, so that a thousand charges do not cost a
/// thousand commits.
pub struct SandboxGateway {
    db: Db,
    waiting: Mutex<Vec<Waiting>>,
    /// Locked by the call that writes for all waiting calls.
    turn: tokio::sync::Mutex<()>,
}

struct Waiting {
    request: Request,
    answer: oneshot::Sender<Result<Decision, GatewayError>>,
}

#[derive(Clone)]
enum Request {
    Charge(Charge),
    Refund(Refund),
}

impl Request {
    /// The key of the charge, and its order.
    fn concerns(&self) -> (Uuid, Uuid) {
        match self {
            Self::Charge(charge) => (charge.key, charge.order_id),
            Self::Refund(refund) => (refund.charge_key, refund.order_id),
        }
    }
}

/// The ledger's statement about an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Statement {
    /// The number of charge calls, failed ones included. Refunds do not count.
    pub calls: i64,
    /// The idempotency keys: one per charge, whatever the number of calls.
    pub idempotency_keys: Vec<Uuid>,
    /// The captured amount, in minor units.
    pub captured_cents: i64,
    /// The refunded amount, in minor units.
    pub refunded_cents: i64,
}

impl SandboxGateway {
    /// The tables of its ledger.
    pub const LEDGER: &[Migration] = MIGRATIONS;

    /// A gateway on this database, which must have been opened with [`SandboxGateway::LEDGER`].
    pub fn new(db: Db) -> Self {
        Self { db, waiting: Mutex::default(), turn: tokio::sync::Mutex::new(()) }
    }

    /// A gateway whose ledger is beside payment's database: in the schema `sandbox_gateway` of the same PostgreSQL
    /// database (in its namespace), or in its own SQLite file. Prepare [`SandboxGateway::database`] before the first
    /// call.
    ///
    /// # Errors
    /// When the database's settings can never work.
    pub fn beside(payments: &DatabaseUrl, namespace: &Namespace) -> Result<Self, Misconfigured> {
        Ok(Self::new(Db::open(ledger_url(payments)?, &namespace.schema(NAME), Self::LEDGER)?))
    }

    /// The ledger's database.
    pub fn database(&self) -> &Db {
        &self.db
    }

    /// The ledger's statement about an order; none when it has no charge for it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn statement(&self, order_id: Uuid) -> Result<Option<Statement>, StoreError> {
        let rows = self.db.query(OF_ORDER, params![order_id]).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut all = Statement { calls: 0, idempotency_keys: Vec::new(), captured_cents: 0, refunded_cents: 0 };
        for row in rows {
            all.idempotency_keys.push(row.get("idempotency_key")?);
            all.calls += row.get::<i64>("calls")?;
            all.captured_cents += row.get::<i64>("captured_cents")?;
            all.refunded_cents += row.get::<i64>("refunded_cents")?;
        }
        Ok(Some(all))
    }

    /// Joins the waiting calls. The call that gets the lock writes for all of them, and the others receive their
    /// results.
    async fn submit(&self, request: Request) -> Result<Decision, GatewayError> {
        let (answer, mut answered) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting { request, answer });
        let turn = std::pin::pin!(self.turn.lock());
        // The result is polled first: a call that has its result does not need the lock.
        let answer = match select(&mut answered, turn).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_turn, _)) => {
                // Lets calls that were made at the same time join.
                tokio::task::yield_now().await;
                let mut waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
                // A cancelled call needs no result.
                waiting.retain(|w| !w.answer.is_closed());
                self.settle(waiting).await;
                answered.await
            }
        };
        // The sender was dropped: the call that was writing for this one was cancelled meanwhile.
        answer.unwrap_or_else(|_| Err(GatewayError::Transient("the call was cancelled".to_owned())))
    }

    async fn settle(&self, waiting: Vec<Waiting>) {
        let requests: Vec<Request> = waiting.iter().map(|w| w.request.clone()).collect();
        let work = async |tx| {
            let answers = carry_out(&tx, &requests).await?;
            Ok((tx, answers, Vec::new()))
        };
        match self.db.transaction(work).await {
            Ok(answers) => {
                for (Waiting { answer, .. }, result) in waiting.into_iter().zip(answers) {
                    // A cancelled caller calls again.
                    let _ = answer.send(result);
                }
            }
            Err::<_, StoreError>(error) => {
                for Waiting { answer, .. } in waiting {
                    let _ = answer.send(Err(GatewayError::Down(error.to_string())));
                }
            }
        }
    }
}

/// Carries out the requests in their order, each on the entry that the earlier ones have left.
async fn carry_out(tx: &Tx, requests: &[Request]) -> Result<Vec<Result<Decision, GatewayError>>, StoreError> {
    let charges: BTreeMap<Uuid, Uuid> = requests.iter().map(Request::concerns).collect();
    let charges: Rows = charges.into_iter().map(|(key, order_id)| params![key, order_id]).collect();
    let (_, rows) =
        futures::try_join!(tx.execute_rows(OPEN, &charges, params![]), tx.query_rows(LOCK, &charges, params![]),)?;
    let mut ledger = rows.iter().map(read).collect::<Result<BTreeMap<_, _>, _>>()?;
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        let entry = ledger.entry(request.concerns().0).or_default();
        answers.push(match request {
            Request::Charge(charge) => entry.charge(&charge.payment_method, charge.amount_cents),
            Request::Refund(_) => {
                entry.refund();
                Ok(Decision::Captured)
            }
        });
    }
    let row = |(key, e): (&Uuid, &Entry)| params![*key, e.calls, e.state.as_str(), e.captured_cents, e.refunded_cents];
    tx.execute_rows(WRITE, &ledger.iter().map(row).collect(), params![]).await?;
    Ok(answers)
}

fn read(row: &Row) -> Result<(Uuid, Entry), StoreError> {
    let entry = Entry {
        calls: row.get("calls")?,
        state: row.get::<String>("state")?.parse().map_err(StoreError::Broken)?,
        captured_cents: row.get("captured_cents")?,
        refunded_cents: row.get("refunded_cents")?,
    };
    Ok((row.get("idempotency_key")?, entry))
}

impl Gateway for SandboxGateway {
    fn charge(&self, charge: Charge) -> BoxFuture<'_, Result<Decision, GatewayError>> {
        self.submit(Request::Charge(charge)).boxed()
    }

    fn refund(&self, refund: Refund) -> BoxFuture<'_, Result<(), GatewayError>> {
        async move { self.submit(Request::Refund(refund)).await.map(|_| ()) }.boxed()
    }
}

/// For `payment.db` the ledger is `payment.sandbox_gateway.db`; in PostgreSQL it is in a schema of its own.
fn ledger_url(payments: &DatabaseUrl) -> Result<DatabaseUrl, Misconfigured> {
    let shown = payments.to_string();
    let Some(path) = shown.strip_prefix("sqlite://") else { return Ok(payments.clone()) };
    let path = std::path::Path::new(path);
    let extension = path.extension().map_or_else(|| NAME.into(), |e| format!("{NAME}.{}", e.display()));
    let beside = format!("sqlite://{}", path.with_extension(extension).display());
    beside.parse().map_err(|e| Misconfigured(format!("the sandbox gateway's ledger: {e}")))
}

#[cfg(test)]
mod tests;

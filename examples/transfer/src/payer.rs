//! The payer's bank: debits an account that has cover, and refunds what the payee's bank refuses.

use saga::prelude::*;

use crate::events::{PayeeRefused, PayerDebited, PayerRefunded, PayerRefused, TransferRequested};

/// The tables of the payer's bank. A debit stays as the record of what the account is owed if the transfer is refused.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_accounts",
    sql: "CREATE TABLE accounts (account text PRIMARY KEY, cents bigint NOT NULL);
          CREATE TABLE debits (
              transfer_id text PRIMARY KEY, account text NOT NULL, cents bigint NOT NULL, refunded boolean NOT NULL)",
}];

// The condition is part of the statement: of two transfers at once, the second one sees what the first one has left.
const DEBIT: &str = "UPDATE accounts SET cents = cents - $1 WHERE account = $2 AND cents >= $1";
const NOTE: &str = "INSERT INTO debits (transfer_id, account, cents, refunded) VALUES ($1, $2, $3, FALSE)";
const REFUND: &str = "UPDATE accounts SET cents = cents + (SELECT d.cents FROM debits d WHERE d.transfer_id = $1)
    WHERE account = (SELECT d.account FROM debits d WHERE d.transfer_id = $1)";
const NOTE_REFUND: &str = "UPDATE debits SET refunded = TRUE WHERE transfer_id = $1 AND NOT refunded";

/// The participant.
pub fn participant() -> Participant<Db> {
    Participant::named("payer")
        .publishes::<TransferRequested>()
        .step(Step::new("debit", debit).undone_by(refund).on::<(PayeeRefused,)>())
        .compensates_with::<PayerRefused>()
        .compensates_with::<PayerRefunded>()
}

/// The service.
pub fn service() -> Service {
    saga::serve(participant()).http("127.0.0.1:8101").migrations(MIGRATIONS)
}

// transfer.requested -> payer.debited | payer.refused
async fn debit(cx: &mut Cx<'_, Db>, transfer: TransferRequested) -> StepResult<PayerDebited, PayerRefused> {
    let TransferRequested { transfer_id, from, to, cents } = transfer;
    if cx.tx().execute(DEBIT, params![cents, &from]).await? == 0 {
        return Ok(Outcome::Refused(PayerRefused { transfer_id, reason: "no_cover".to_owned() }));
    }
    cx.write(NOTE, params![transfer_id, from, cents])?;
    Ok(Outcome::Success(PayerDebited { transfer_id, to, cents }))
}

// payee.refused -> payer.refunded
async fn refund(cx: &mut Cx<'_, Db>, refunded: PayerRefunded) -> Result<PayerRefunded, StepError> {
    for sql in [NOTE_REFUND, REFUND] {
        if cx.tx().execute(sql, params![refunded.transfer_id]).await? != 1 {
            return Err(StepError::permanent("there is no debit to refund, or no account to refund it to"));
        }
    }
    Ok(refunded)
}

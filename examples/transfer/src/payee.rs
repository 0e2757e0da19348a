//! The payee's bank: credits an account, unless that is closed.

use saga::prelude::*;

use crate::events::{PayeeCredited, PayeeRefused, PayerDebited};

/// The tables of the payee's bank.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_accounts",
    sql: "CREATE TABLE accounts (account text PRIMARY KEY, cents bigint NOT NULL, closed boolean NOT NULL);
          CREATE TABLE credits (transfer_id text PRIMARY KEY, account text NOT NULL, cents bigint NOT NULL)",
}];

const CREDIT: &str = "UPDATE accounts SET cents = cents + $1 WHERE account = $2 AND NOT closed";
const NOTE: &str = "INSERT INTO credits (transfer_id, account, cents) VALUES ($1, $2, $3)";

/// The participant.
pub fn participant() -> Participant<Db> {
    Participant::named("payee")
        // The payee may have spent the money a moment later: it is not taken back.
        .step(Step::new("credit", credit).pivot())
        .completes_with::<PayeeCredited>()
}

/// The service.
pub fn service() -> Service {
    saga::serve(participant()).http("127.0.0.1:8102").migrations(MIGRATIONS)
}

// payer.debited -> payee.credited | payee.refused
async fn credit(cx: &mut Cx<'_, Db>, debited: PayerDebited) -> StepResult<PayeeCredited, PayeeRefused> {
    let PayerDebited { transfer_id, to, cents } = debited;
    if cx.tx().execute(CREDIT, params![cents, &to]).await? == 0 {
        return Ok(Outcome::Refused(PayeeRefused { transfer_id, reason: "account_closed".to_owned() }));
    }
    cx.write(NOTE, params![transfer_id, to, cents])?;
    Ok(Outcome::Success(PayeeCredited { transfer_id }))
}

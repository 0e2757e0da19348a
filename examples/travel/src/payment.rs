//! The payment: charges what is priced. A cancellation enters the flow here.

use saga::prelude::*;

use crate::events::{PaymentCharged, PaymentDeclined, PaymentRefunded, TripCancellationRequested, TripPriced};

/// The payment's table.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_payments",
    sql: "CREATE TABLE payments (trip_id text PRIMARY KEY, cents bigint NOT NULL, refunded boolean NOT NULL)",
}];

const CHARGE: &str = "INSERT INTO payments (trip_id, cents, refunded) VALUES ($1, $2, FALSE)";
const REFUND: &str = "UPDATE payments SET refunded = TRUE WHERE trip_id = $1";

/// The participant.
pub fn participant() -> Participant<Db> {
    let charge = Step::new("charge", charge).undone_by(refund);
    Participant::named("payment").step(charge.on::<(TripCancellationRequested,)>())
}

/// The service.
pub fn service() -> Service {
    saga::serve(participant()).http("127.0.0.1:8115").migrations(MIGRATIONS)
}

// trip.priced -> payment.charged | payment.declined
async fn charge(cx: &mut Cx<'_, Db>, priced: TripPriced) -> StepResult<PaymentCharged, PaymentDeclined> {
    let TripPriced { trip_id, cents, card } = priced;
    if card == "declined" {
        return Ok(Outcome::Refused(PaymentDeclined { trip_id, reason: "card_declined".to_owned() }));
    }
    cx.write(CHARGE, params![trip_id, cents])?;
    Ok(Outcome::Success(PaymentCharged { trip_id }))
}

// trip.cancellation_requested -> payment.refunded
async fn refund(cx: &mut Cx<'_, Db>, refunded: PaymentRefunded) -> Result<PaymentRefunded, StepError> {
    cx.write(REFUND, params![refunded.trip_id])?;
    Ok(refunded)
}

//! What a customer asks of a trip, to cancel it, and what a trip asks its customer.

use saga::{axum::http::StatusCode, database::Outbox, prelude::*, store::StoreError, trace::TraceContext};

use super::store::{QUESTIONS, REQUEST_CANCELLATION};
use crate::events::TripCancellationRequested;

/// `POST /trips/{trip_id}/cancel`: 202, or 409 when the trip is not pending: it has ended, is being cancelled, is not registered yet, or
/// is unknown.
pub fn routes(deps: &Deps) -> Router {
    Router::new().route("/trips/{trip_id}/cancel", post(ask_to_cancel)).with_state(deps.outbox.clone())
}

async fn ask_to_cancel(
    State(outbox): State<Outbox>,
    Trace(trace): Trace,
    Path(trip_id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    let is_cancelling = cancel(&outbox, &trace, trip_id).await.map_err(|error| Problem::internal(&error))?;
    Ok(if is_cancelling { StatusCode::ACCEPTED } else { StatusCode::CONFLICT })
}

/// Cancels a trip that is pending; whether it was.
///
/// # Errors
/// When the database does not answer.
pub async fn cancel(outbox: &Outbox, trace: &TraceContext, trip_id: Uuid) -> Result<bool, StepError> {
    let request = TripCancellationRequested { trip_id, reason: "customer".to_owned() };
    outbox
        .transaction(trace, async |mut tx| {
            let is_pending = tx.execute(REQUEST_CANCELLATION, params![trip_id, &request.reason]).await? > 0;
            if is_pending {
                tx.publish(&request)?;
            }
            Ok::<_, StepError>((tx, is_pending))
        })
        .await
}

/// A question about a new price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The trip.
    pub trip_id: Uuid,
    /// 1 for the trip's first question.
    pub number: i64,
    /// The new price.
    pub cents: i64,
}

/// What customers have been asked, of every trip.
///
/// # Errors
/// When the database does not answer.
pub async fn asked(db: &Db) -> Result<Vec<Asked>, StoreError> {
    let read = |row: &saga::database::Row| {
        Ok(Asked { trip_id: row.get("trip_id")?, number: row.get("number")?, cents: row.get("cents")? })
    };
    db.query(QUESTIONS, params![]).await?.iter().map(read).collect()
}

//! What a customer asks of a trip: to cancel it.

use saga::{axum::http::StatusCode, database::Outbox, prelude::*, trace::TraceContext};

use super::store::REQUEST_CANCELLATION;
use crate::events::TripCancellationRequested;

/// `POST /trips/{trip_id}/cancel`: 202, or 409 when the trip has ended or is being cancelled.
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

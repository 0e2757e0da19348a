//! The trip's steps.

use std::time::Duration;

use saga::prelude::*;

use super::{
    MOST_QUESTIONS, NoCar, NoFlight, NoHotel, Offer,
    store::{ANSWER, ASKED, CANCEL, CONFIRM, LOCK_QUESTION, QUESTION, REGISTER, REQUEST_CANCELLATION},
};
use crate::events::{
    AnswerWithdrawn, CarReserved, FlightReserved, HotelReserved, OfferWithdrawn, PaymentCharged, PriceAnswered,
    PriceChanged, PriceRefused, QuestionOpened, TripCancellationRequested, TripCancelled, TripConfirmed, TripPriced,
    TripRequested,
};

/// Waits for the end, as long as the customer does.
pub(super) async fn register(cx: &mut Cx<'_, Db>, trip: TripRequested) -> StepResult<Never> {
    if let Ok(patience) = u64::try_from(trip.patience_ms) {
        cx.saga_deadline(Duration::from_millis(patience));
    }
    cx.write(REGISTER, params![trip.trip_id])?;
    Ok(Outcome::Quiet)
}

/// Cancels what is still pending when the time is over.
pub(super) async fn expire(
    cx: &mut Cx<'_, Db>,
    trips: Vec<SagaId>,
) -> Result<Vec<Outcome<TripCancellationRequested>>, StepError> {
    let mut outcomes = Vec::with_capacity(trips.len());
    for trip in trips {
        let is_pending = cx.tx().execute(REQUEST_CANCELLATION, params![trip, "deadline"]).await? > 0;
        let request = TripCancellationRequested { trip_id: trip.as_uuid(), reason: "deadline".to_owned() };
        outcomes.push(if is_pending { Outcome::Success(request) } else { Outcome::Quiet });
    }
    Ok(outcomes)
}

/// Everything is reserved: offers the price, or asks whether it may be another one.
pub(super) async fn offer(
    cx: &mut Cx<'_, Db>,
    (flight, hotel, car): (FlightReserved, HotelReserved, CarReserved),
) -> StepResult<Offer> {
    let quoted = flight.quoted_cents + hotel.quoted_cents + car.quoted_cents;
    let cents = flight.cents + hotel.cents + car.cents;
    let FlightReserved { trip_id, card, .. } = flight;
    if cents <= quoted {
        return Ok(Outcome::Success(Offer::Priced(TripPriced { trip_id, cents, card })));
    }
    cx.write(QUESTION, params![trip_id, cents, card])?;
    Ok(Outcome::Success(Offer::Changed((PriceChanged { trip_id, cents }, QuestionOpened { trip_id }))))
}

/// No price is offered any more, and no question is open.
pub(super) async fn withdraw_offer(
    cx: &mut Cx<'_, Db>,
    withdrawn: OfferWithdrawn,
) -> Result<OfferWithdrawn, StepError> {
    cx.write(ANSWER, params![withdrawn.trip_id, "withdrawn"])?;
    Ok(withdrawn)
}

/// Asks the customer, asks again while there is no answer, and cancels the trip when there is none at last.
pub(super) async fn ask(
    cx: &mut Cx<'_, Db>,
    opened: QuestionOpened,
    patience: Duration,
) -> StepResult<Never, TripCancellationRequested> {
    let trip_id = opened.trip_id;
    let Question { cents, answer, .. } = question(cx, trip_id).await?;
    if answer.is_some() {
        return Ok(Outcome::Quiet);
    }
    if cx.round() < MOST_QUESTIONS {
        cx.write(ASKED, params![trip_id, cx.round() + 1, cents])?;
        return Ok(Outcome::Again { after: patience });
    }
    let request = TripCancellationRequested { trip_id, reason: "no_answer".to_owned() };
    let is_pending = cx.tx().execute(REQUEST_CANCELLATION, params![trip_id, &request.reason]).await? > 0;
    Ok(if is_pending { Outcome::Refused(request) } else { Outcome::Quiet })
}

/// The customer has answered what was asked, and is not too late. Whoever accepts another price than this one refuses it: the join
/// keeps an answer that comes before the question.
pub(super) async fn answer(
    cx: &mut Cx<'_, Db>,
    (_, answered): (PriceChanged, PriceAnswered),
) -> StepResult<TripPriced, PriceRefused> {
    let PriceAnswered { trip_id, cents: known, accepted } = answered;
    let Question { cents, card, answer, .. } = question(cx, trip_id).await?;
    if answer.is_some() {
        return Ok(Outcome::Quiet);
    }
    let accepted = accepted && known == cents;
    cx.write(ANSWER, params![trip_id, if accepted { "accepted" } else { "refused" }])?;
    if accepted {
        Ok(Outcome::Success(TripPriced { trip_id, cents, card }))
    } else {
        Ok(Outcome::Refused(PriceRefused { trip_id, reason: "price_refused".to_owned() }))
    }
}

/// No answer counts any more. There is nothing to change: the barrier skips an answer that comes later.
pub(super) async fn withdraw_answer(
    _: &mut Cx<'_, Db>,
    withdrawn: AnswerWithdrawn,
) -> Result<AnswerWithdrawn, StepError> {
    Ok(withdrawn)
}

struct Question {
    cents: i64,
    card: String,
    answer: Option<String>,
}

async fn question(cx: &mut Cx<'_, Db>, trip_id: Uuid) -> Result<Question, StepError> {
    let row = cx.tx().query_opt(LOCK_QUESTION, params![trip_id]).await?;
    let row = row.ok_or_else(|| StepError::permanent("the question is not there, although it was asked"))?;
    Ok(Question { cents: row.get("cents")?, card: row.get("card")?, answer: row.get("answer")? })
}

/// Paid: the trip is confirmed, unless it is being cancelled.
pub(super) async fn confirm(cx: &mut Cx<'_, Db>, paid: PaymentCharged) -> StepResult<TripConfirmed> {
    let trip_id = paid.trip_id;
    let row = cx.tx().query_opt(CONFIRM, params![trip_id]).await?;
    let status: Option<String> = row.map(|row| row.get("status")).transpose()?;
    match status.as_deref() {
        Some("confirmed") => Ok(Outcome::Success(TripConfirmed { trip_id })),
        _ => Ok(Outcome::Quiet),
    }
}

/// Nothing is held any more, whoever had nothing or has released it: the trip is cancelled. The first reason stays.
pub(super) async fn cancel(
    cx: &mut Cx<'_, Db>,
    (flight, _, _): (NoFlight, NoHotel, NoCar),
) -> StepResult<TripCancelled> {
    let trip_id = *flight.trip_id();
    let Some(row) = cx.tx().query_opt(CANCEL, params![trip_id, flight.reason()]).await? else {
        return Ok(Outcome::Quiet);
    };
    Ok(Outcome::Success(TripCancelled { trip_id, reason: row.get("reason")? }))
}

//! TCC: try is a step, cancel its compensation, confirm a step behind the pivot.

use std::time::Duration;

use saga::prelude::*;

#[saga_event(name = "stay.requested", topic = "stay.events", saga = "stay_id")]
struct StayRequested {
    stay_id: Uuid,
    card: String,
}

#[saga_event(name = "stay.cancellation_requested", topic = "stay.events", saga = "stay_id")]
struct CancellationRequested {
    stay_id: Uuid,
}

#[saga_event(name = "room.reserved", topic = "room.events", saga = "stay_id")]
struct RoomReserved {
    stay_id: Uuid,
    card: String,
}

#[saga_event(name = "room.released", topic = "room.events", saga = "stay_id", from(PaymentDeclined, PaymentVoided))]
struct RoomReleased {
    stay_id: Uuid,
}

#[saga_event(name = "payment.charged", topic = "payment.events", saga = "stay_id")]
struct PaymentCharged {
    stay_id: Uuid,
}

#[saga_event(name = "payment.declined", topic = "payment.events", saga = "stay_id")]
struct PaymentDeclined {
    stay_id: Uuid,
}

#[saga_event(name = "payment.voided", topic = "payment.events", saga = "stay_id", from(CancellationRequested))]
struct PaymentVoided {
    stay_id: Uuid,
}

#[saga_event(name = "room.confirmed", topic = "room.events", saga = "stay_id")]
struct RoomConfirmed {
    stay_id: Uuid,
}

async fn reserve(cx: &mut Cx<'_, Db>, stay: StayRequested) -> StepResult<RoomReserved> {
    let StayRequested { stay_id, card } = stay;
    cx.write("INSERT INTO rooms (stay_id, state) VALUES ($1, 'reserved')", params![stay_id])?;
    Ok(Outcome::Success(RoomReserved { stay_id, card }))
}

async fn expire(_: &mut Cx<'_, Db>, stays: Vec<SagaId>) -> Result<Vec<Outcome<CancellationRequested>>, StepError> {
    Ok(stays.into_iter().map(|stay| Outcome::Success(CancellationRequested { stay_id: stay.as_uuid() })).collect())
}

async fn release(cx: &mut Cx<'_, Db>, released: RoomReleased) -> Result<RoomReleased, StepError> {
    cx.write("DELETE FROM rooms WHERE stay_id = $1", params![released.stay_id])?;
    Ok(released)
}

async fn confirm(cx: &mut Cx<'_, Db>, paid: PaymentCharged) -> StepResult<RoomConfirmed> {
    cx.write("UPDATE rooms SET state = 'confirmed' WHERE stay_id = $1", params![paid.stay_id])?;
    Ok(Outcome::Success(RoomConfirmed { stay_id: paid.stay_id }))
}

fn room() -> Participant<Db> {
    let reserve = Step::new("reserve", reserve).undone_by(release).on::<(PaymentDeclined, PaymentVoided)>();
    Participant::named("room")
        .publishes::<StayRequested>()
        .step(reserve.deadline(Duration::from_secs(900), expire))
        .step(Step::new("confirm", confirm).pivot())
        .completes_with::<RoomConfirmed>()
        .compensates_with::<RoomReleased>()
}

async fn charge(_: &mut Cx<'_, Db>, room: RoomReserved) -> StepResult<PaymentCharged, PaymentDeclined> {
    let RoomReserved { stay_id, card } = room;
    Ok(match card.as_str() {
        "bad" => Outcome::Refused(PaymentDeclined { stay_id }),
        _ => Outcome::Success(PaymentCharged { stay_id }),
    })
}

async fn void(_: &mut Cx<'_, Db>, voided: PaymentVoided) -> Result<PaymentVoided, StepError> {
    Ok(voided)
}

fn payment() -> Participant<Db> {
    Participant::named("payment").step(Step::new("charge", charge).undone_by(void).on::<(CancellationRequested,)>())
}

#[tokio::test(start_paused = true)]
async fn what_was_tried_is_confirmed_or_cancelled() {
    const ROOMS: &[Migration] =
        &[Migration { name: "rooms", sql: "CREATE TABLE rooms (stay_id text PRIMARY KEY, state text NOT NULL)" }];
    let rooms = Db::connect("sqlite::memory:".parse().unwrap(), "room", ROOMS).await.unwrap();
    let payments = Db::connect("sqlite::memory:".parse().unwrap(), "payment", &[]).await.unwrap();
    Flow::on([(room(), rooms), (payment(), payments)])
        .run(async |flow| {
            let findings = flow.choreography().check();
            assert!(findings.is_empty(), "{findings:?}");
            for (card, states) in [("bad", vec![]), ("good", vec!["confirmed"])] {
                flow.when(&StayRequested { stay_id: Uuid::new_v4(), card: card.to_owned() }).await;
                let rows = flow.store("room").query("SELECT state FROM rooms", params![]).await.unwrap();
                let found: Vec<String> = rows.iter().map(|row| row.get("state").unwrap()).collect();
                assert_eq!(found, states);
            }
        })
        .await;
}

//! Orchestration: one participant hears every answer and says what comes next. The others know no event but their own.

use saga::prelude::*;

#[saga_event(name = "booking.requested", topic = "booking.events", saga = "booking_id")]
struct BookingRequested {
    booking_id: Uuid,
}

#[saga_event(name = "room.wanted", topic = "room.commands", saga = "booking_id")]
struct RoomWanted {
    booking_id: Uuid,
}

#[saga_event(name = "room.held", topic = "room.events", saga = "booking_id")]
struct RoomHeld {
    booking_id: Uuid,
}

#[saga_event(name = "payment.wanted", topic = "payment.commands", saga = "booking_id")]
struct PaymentWanted {
    booking_id: Uuid,
}

#[saga_event(name = "payment.done", topic = "payment.events", saga = "booking_id")]
struct PaymentDone {
    booking_id: Uuid,
}

#[saga_event(name = "booking.done", topic = "booking.events", saga = "booking_id")]
struct BookingDone {
    booking_id: Uuid,
}

/// A handler that answers one event with another.
macro_rules! answers {
    ($name:ident: $event:ident => $answer:ident) => {
        async fn $name(_: &mut Cx<'_, MemoryStore>, event: $event) -> StepResult<$answer> {
            Ok(Outcome::Success($answer { booking_id: event.booking_id }))
        }
    };
}

answers!(want_room: BookingRequested => RoomWanted);
answers!(want_payment: RoomHeld => PaymentWanted);
answers!(finish: PaymentDone => BookingDone);
answers!(hold: RoomWanted => RoomHeld);
answers!(pay: PaymentWanted => PaymentDone);

fn booking() -> Participant<MemoryStore> {
    Participant::named("booking")
        .publishes::<BookingRequested>()
        .step(Step::new("want_room", want_room))
        .step(Step::new("want_payment", want_payment))
        .step(Step::new("finish", finish).pivot())
        .completes_with::<BookingDone>()
}

#[tokio::test(start_paused = true)]
async fn one_participant_says_what_comes_next() {
    let room = Participant::named("room").step(Step::new("hold", hold));
    let payment = Participant::named("payment").step(Step::new("pay", pay));
    Flow::of([booking(), room, payment])
        .run(async |flow| {
            let answers = flow.when(&BookingRequested { booking_id: Uuid::new_v4() }).await;
            let sources: Vec<&str> = answers.iter().map(|event| event.source.as_str()).collect();
            assert_eq!(sources, ["booking", "room", "booking", "payment", "booking"]);
        })
        .await;
}

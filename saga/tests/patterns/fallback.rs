//! Retry with fallback: a step that gives up refuses, and its refusal starts another step.

use std::time::Duration;

use saga::prelude::*;

#[saga_event(name = "order.placed", topic = "order.events", saga = "order_id")]
struct OrderPlaced {
    order_id: Uuid,
}

#[saga_event(name = "card.charged", topic = "card.events", saga = "order_id")]
struct CardCharged {
    order_id: Uuid,
}

#[saga_event(name = "card.unavailable", topic = "card.events", saga = "order_id")]
struct CardUnavailable {
    order_id: Uuid,
}

#[saga_event(name = "invoice.sent", topic = "invoice.events", saga = "order_id")]
struct InvoiceSent {
    order_id: Uuid,
}

async fn charge(_: &mut Cx<'_, MemoryStore>, order: OrderPlaced, (): ()) -> StepResult<CardCharged, CardUnavailable> {
    Ok(Outcome::Success(CardCharged { order_id: order.order_id }))
}

async fn give_up(_: &mut Cx<'_, MemoryStore>, order: OrderPlaced, _: &StepError) -> Result<CardUnavailable, StepError> {
    Ok(CardUnavailable { order_id: order.order_id })
}

async fn send_invoice(cx: &mut Cx<'_, MemoryStore>, card: CardUnavailable) -> StepResult<InvoiceSent> {
    cx.tx().put("invoice", &card.order_id);
    Ok(Outcome::Success(InvoiceSent { order_id: card.order_id }))
}

fn participants() -> [Participant<MemoryStore>; 2] {
    let ask = async |_: &Call, _: &OrderPlaced| Err::<(), _>(StepError::transient("the gateway does not answer"));
    let void = async |_: &Call, _: &OrderPlaced| Ok(());
    let card = Participant::named("card").publishes::<OrderPlaced>().step(
        Step::with_effect("charge", ask, charge)
            .retry(RetryPolicy::exponential(Duration::from_millis(100), Duration::from_secs(5), 4))
            .when_exhausted_with_effect(void, give_up),
    );
    let invoice = Participant::named("invoice").step(Step::new("send", send_invoice));
    [card.completes_with::<CardCharged>(), invoice.completes_with::<InvoiceSent>()]
}

#[tokio::test(start_paused = true)]
async fn what_the_card_cannot_do_the_invoice_does() {
    Flow::of(participants())
        .run(async |flow| {
            let findings = flow.choreography().check();
            assert!(findings.is_empty(), "{findings:?}");
            flow.when(&OrderPlaced { order_id: Uuid::new_v4() }).await;
            assert_eq!(flow.types(), ["order.placed", "card.unavailable", "invoice.sent"]);
        })
        .await;
}

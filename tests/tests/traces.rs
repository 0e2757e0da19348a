//! One trace per saga, as a real Jaeger shows it: services, names, parents and links.

use std::{net::TcpListener, time::Duration};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use saga_tests::{
    Jaeger, PATIENCE, Who, World, eventually,
    http::{accepted, send},
    in_both_modes,
    jaeger::{Span, Trace},
    orders::{self, Order, with_header},
};
use uuid::Uuid;

in_both_modes![traced_world:
    a_confirmed_order_is_one_trace_across_the_four_services,
    an_unshippable_order_is_one_trace_through_its_compensations,
    a_foreign_order_continues_its_producers_trace,
    an_order_without_a_trace_has_one_of_its_own_id,
    orders_that_share_their_transactions_keep_their_own_traces,
    a_cancellation_continues_the_orders_trace_and_is_linked_to_its_request,
    a_retried_charge_records_each_attempt_and_the_parked_time,
    an_unsampled_trace_is_exported_nowhere,
    a_dead_letter_is_recorded_in_its_own_trace,
];
in_both_modes![own_world: a_collector_that_never_answers_delays_no_saga];

/// Spans are exported every 200 ms here, in the order in which they ended.
const EXPORTED: Duration = PATIENCE;

/// A caller's context: trace, span and header.
struct Caller {
    trace: String,
    span: String,
    traceparent: String,
}

impl Caller {
    fn new(flags: &str) -> Self {
        let trace = Uuid::new_v4().simple().to_string();
        let span = trace.get(..16).unwrap_or_default().replace('0', "a");
        let traceparent = format!("00-{trace}-{span}-{flags}");
        Self { trace, span, traceparent }
    }

    async fn place(&self, world: &World, order: &Order) -> Result<Uuid> {
        let request = world.request(Who::Order, Method::POST, "/orders")?.header("traceparent", &self.traceparent);
        accepted(&send(request.json(&order.body())).await?)
    }
}

/// The tree with siblings sorted by name, since services run in parallel.
fn shape(trace: &Trace) -> String {
    fn write(trace: &Trace, mut spans: Vec<&Span>, depth: usize, text: &mut String) {
        spans.sort_by_key(|span| (span.to_string(), span.start));
        for span in spans {
            text.push_str(&format!("{}{span}\n", "  ".repeat(depth)));
            write(trace, trace.children(span), depth + 1, text);
        }
    }
    let mut text = String::new();
    write(trace, trace.roots(), 0, &mut text);
    text
}

/// Without the indentation of the source.
fn tree(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let margin = lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    lines.iter().map(|line| format!("{}\n", &line[margin..])).collect()
}

async fn shows(jaeger: &Jaeger, id: &str, expected: &str) -> Result<Trace> {
    let expected = tree(expected);
    eventually(EXPORTED, "the trace is complete", async || {
        let trace = jaeger.trace(id).await?;
        let shape = shape(&trace);
        ensure!(shape == expected, "expected\n{expected}found\n{shape}");
        Ok(trace)
    })
    .await
}

/// The spans after the publication of `order.created`, up to the confirmation, at this depth.
const CONFIRMED: &str = "
    inventory-service process order.events
      inventory-service send inventory.events
        payment-service process inventory.events
          payment-service effect charge
          payment-service send payment.events
            shipping-service process payment.events
              shipping-service send shipping.events
                order-service process shipping.events
                  order-service send order.events
                  order-service transaction confirm
              shipping-service transaction schedule
          payment-service transaction charge
          payment-service transaction charge
      inventory-service transaction reserve
    order-service process order.events
      order-service transaction register
";

async fn a_confirmed_order_is_one_trace_across_the_four_services(world: &World) -> Result<()> {
    let Some(jaeger) = Jaeger::of_environment()? else { return Ok(()) };
    let caller = Caller::new("01");
    let order = Order::of(&world.stocked(10).await?, 1);
    let id = caller.place(world, &order).await?;
    let expected = format!("order-service POST /orders\n  order-service send order.events{CONFIRMED}");
    let trace = shows(&jaeger, &caller.trace, &expected).await?;
    let request = trace.only("order-service", "POST /orders")?;
    ensure!(request.parent.as_deref() == Some(caller.span.as_str()) && request.kind() == "server", "{request:?}");
    ensure!(request.number("http.response.status_code") == Some(202), "{request:?}");
    ensure!(trace.spans.iter().all(|span| span.error().is_none()), "{trace}");
    let services = jaeger.services().await?;
    for who in Who::ALL {
        ensure!(services.contains(&format!("{who}-service")), "{services:?}");
    }
    let process = trace.only("inventory-service", "process order.events")?;
    let tags = [
        ("messaging.system", "kafka"),
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "order.events"),
        ("messaging.consumer.group.name", "inventory"),
        ("messaging.message.conversation_id", &id.to_string()),
        ("cloudevents.event_type", "order.created"),
        ("saga.step", "reserve"),
        ("saga.op", "action"),
        ("saga.outcome", "success"),
    ];
    for (tag, value) in tags {
        ensure!(process.text(tag) == value, "{tag}: {process:?}");
    }
    ensure!(process.kind() == "consumer" && process.number("messaging.kafka.offset").is_some(), "{process:?}");
    let created = world.event(id, "order.created").await?;
    ensure!(process.text("messaging.message.id") == created.header("ce_id").unwrap_or_default(), "{process:?}");
    let send = trace.only("inventory-service", "send inventory.events")?;
    ensure!(send.kind() == "producer" && send.text("cloudevents.event_type") == "inventory.reserved", "{send:?}");
    let effect = trace.only("payment-service", "effect charge")?;
    ensure!(effect.kind() == "client" && effect.text("saga.effect.result") == "ok", "{effect:?}");
    let reserved = world.event(id, "inventory.reserved").await?;
    let context = format!("00-{}-{}-01", caller.trace, send.id);
    let carried = reserved.header("traceparent").unwrap_or_default();
    ensure!(carried == context, "{carried} is not {context}");
    let no_data =
        |span: &Span| !format!("{span:?}").contains("Main Street") && !format!("{span:?}").contains("tok_visa");
    ensure!(trace.spans.iter().all(no_data), "data of an event is in a span");
    Ok(())
}

async fn an_unshippable_order_is_one_trace_through_its_compensations(world: &World) -> Result<()> {
    let Some(jaeger) = Jaeger::of_environment()? else { return Ok(()) };
    let caller = Caller::new("01");
    caller.place(world, &Order::of(&world.stocked(10).await?, 1).shipped_to("AQ")).await?;
    let trace = shows(
        &jaeger,
        &caller.trace,
        "
        order-service POST /orders
          order-service send order.events
            inventory-service process order.events
              inventory-service send inventory.events
                payment-service process inventory.events
                  payment-service effect charge
                  payment-service send payment.events
                    shipping-service process payment.events
                      shipping-service send shipping.events
                        payment-service process shipping.events
                          payment-service effect refund
                          payment-service send payment.events
                            inventory-service process payment.events
                              inventory-service send inventory.events
                                order-service process inventory.events
                                  order-service send order.events
                                  order-service transaction cancel
                              inventory-service transaction release
                          payment-service transaction refund
                          payment-service transaction refund
                      shipping-service transaction schedule
                  payment-service transaction charge
                  payment-service transaction charge
              inventory-service transaction reserve
            order-service process order.events
              order-service transaction register
        ",
    )
    .await?;
    let of = |service, name| trace.only(service, name);
    ensure!(of("shipping-service", "process payment.events")?.text("saga.outcome") == "refused", "{trace:?}");
    for (service, name, step) in [
        ("payment-service", "process shipping.events", "refund"),
        ("inventory-service", "process payment.events", "release"),
    ] {
        let span = of(service, name)?;
        ensure!(span.text("saga.op") == "compensate" && span.text("saga.step") == step, "{span:?}");
    }
    // Neither is an error: both are declared outcomes.
    ensure!(trace.spans.iter().all(|span| span.error().is_none()), "{trace}");
    Ok(())
}

async fn a_foreign_order_continues_its_producers_trace(world: &World) -> Result<()> {
    let Some(jaeger) = Jaeger::of_environment()? else { return Ok(()) };
    let (caller, id) = (Caller::new("01"), Uuid::new_v4());
    let order = Order::of(&world.stocked(10).await?, 1);
    let record = orders::event("order.created", id, &order.created(id));
    let record = with_header(record, "traceparent", caller.traceparent.clone());
    world.produce(with_header(record, "tracestate", "vendor=1")).await?;
    let trace = shows(&jaeger, &caller.trace, CONFIRMED).await?;
    let parents: Vec<_> = trace.roots().iter().map(|span| span.parent.clone()).collect();
    ensure!(parents == [Some(caller.span.clone()), Some(caller.span.clone())], "{parents:?}");
    ensure!(world.event(id, "order.confirmed").await?.header("tracestate").as_deref() == Some("vendor=1"));
    Ok(())
}

async fn an_order_without_a_trace_has_one_of_its_own_id(world: &World) -> Result<()> {
    let Some(jaeger) = Jaeger::of_environment()? else { return Ok(()) };
    let id = Uuid::new_v4();
    let order = Order::of(&world.stocked(10).await?, 1);
    world.produce(orders::event("order.created", id, &order.created(id))).await?;
    shows(&jaeger, &id.simple().to_string(), CONFIRMED).await?;
    Ok(())
}

async fn orders_that_share_their_transactions_keep_their_own_traces(world: &World) -> Result<()> {
    let Some(jaeger) = Jaeger::of_environment()? else { return Ok(()) };
    let sku = world.stocked(100).await?;
    let ids: Vec<Uuid> = (0..30).map(|_| Uuid::new_v4()).collect();
    let produce = |id: &Uuid| world.produce(orders::event("order.created", *id, &Order::of(&sku, 1).created(*id)));
    futures::future::try_join_all(ids.iter().map(produce)).await?;
    let mut shared = 0;
    for id in ids {
        let trace = shows(&jaeger, &id.simple().to_string(), CONFIRMED).await?;
        let events = |span: &Span| span.number("saga.batch.events").unwrap_or(0);
        shared += trace.spans.iter().filter(|span| events(span) > 1).count();
        let saga = id.to_string();
        let others = |span: &&Span| !["", &saga].contains(&span.text("messaging.message.conversation_id"));
        ensure!(!trace.spans.iter().any(|span| others(&span)), "{trace:?}");
    }
    ensure!(shared > 0, "no transaction was shared: the test tests nothing");
    Ok(())
}

async fn a_cancellation_continues_the_orders_trace_and_is_linked_to_its_request(world: &World) -> Result<()> {
    let Some(jaeger) = Jaeger::of_environment()? else { return Ok(()) };
    let (caller, asker) = (Caller::new("01"), Caller::new("01"));
    let order = Order::of(&world.stocked(10).await?, 1).paid_by("tok_timeout");
    let id = caller.place(world, &order).await?;
    // It has failed twice, and waits for its next attempt.
    eventually(EXPORTED, "failed attempts are recorded", async || {
        let trace = jaeger.trace(&caller.trace).await?;
        let failed = trace.named("payment-service", "effect charge");
        ensure!(failed.iter().filter(|span| span.error().is_some()).count() >= 2, "{trace}");
        Ok(())
    })
    .await?;
    let path = format!("/orders/{id}/cancel");
    let request = world.request(Who::Order, Method::POST, &path)?.header("traceparent", &asker.traceparent);
    let answer = send(request).await?;
    ensure!(answer.status == 202, "{answer:?}");
    let trace = eventually(Duration::from_secs(90), "the order's trace contains its end", async || {
        let trace = jaeger.trace(&caller.trace).await?;
        ensure!(trace.spans.iter().any(|s| s.text("cloudevents.event_type") == "order.cancelled"), "{trace}");
        Ok(trace)
    })
    .await?;
    let asked = |span: &&Span| span.text("cloudevents.event_type") == "order.cancellation_requested";
    let sent = trace.named("order-service", "send order.events").into_iter().find(asked).context("not published")?;
    let asking = eventually(EXPORTED, "the request is recorded in its own trace", async || {
        let trace = jaeger.trace(&asker.trace).await?;
        Ok(trace.only("order-service", "POST /orders/{id}/cancel")?.clone())
    })
    .await?;
    ensure!(sent.links == [(asker.trace.clone(), asking.id.clone())], "{sent:?} is not linked to {asking:?}");
    let attempts = trace.spans.iter().filter_map(|span| span.number("saga.attempt")).max();
    ensure!(attempts >= Some(2), "{trace:?}");
    Ok(())
}

async fn a_retried_charge_records_each_attempt_and_the_parked_time(world: &World) -> Result<()> {
    let Some(jaeger) = Jaeger::of_environment()? else { return Ok(()) };
    let caller = Caller::new("01");
    caller.place(world, &Order::of(&world.stocked(10).await?, 1).paid_by("tok_flaky")).await?;
    eventually(Duration::from_secs(60), "all attempts of the charge are recorded", async || {
        let trace = jaeger.trace(&caller.trace).await?;
        let attempts = trace.named("payment-service", "effect charge");
        ensure!(attempts.iter().filter(|span| span.error().is_some()).count() == 2, "{trace}");
        ensure!(attempts.len() == 3, "{trace}");
        trace.only("payment-service", "parked charge")?;
        Ok(())
    })
    .await
}

async fn an_unsampled_trace_is_exported_nowhere(world: &World) -> Result<()> {
    let Some(jaeger) = Jaeger::of_environment()? else { return Ok(()) };
    let (silent, sampled) = (Caller::new("00"), Caller::new("01"));
    let order = Order::of(&world.stocked(10).await?, 1);
    let id = silent.place(world, &order).await?;
    let confirmed = world.event(id, "order.confirmed").await?;
    let carried = confirmed.header("traceparent").unwrap_or_default();
    ensure!(carried == silent.traceparent, "{carried}");
    sampled.place(world, &order).await?;
    // The recorded trace came later and is there: an earlier one would be there too.
    let expected = format!("order-service POST /orders\n  order-service send order.events{CONFIRMED}");
    shows(&jaeger, &sampled.trace, &expected).await?;
    ensure!(jaeger.trace(&silent.trace).await.is_err());
    Ok(())
}

async fn a_dead_letter_is_recorded_in_its_own_trace(world: &World) -> Result<()> {
    let Some(jaeger) = Jaeger::of_environment()? else { return Ok(()) };
    let (caller, id) = (Caller::new("01"), Uuid::new_v4());
    let record = orders::event("order.created", id, &serde_json::json!({"order_id": id, "name": "Ada"}));
    world.produce(with_header(record, "traceparent", caller.traceparent.clone())).await?;
    let trace = shows(
        &jaeger,
        &caller.trace,
        "
        inventory-service process order.events
          inventory-service send inventory.dlq
        order-service process order.events
          order-service send order.dlq
        ",
    )
    .await?;
    let process = trace.only("order-service", "process order.events")?;
    ensure!(process.error().is_some() && process.text("error.type") == "undecodable", "{process:?}");
    Ok(())
}

async fn a_collector_that_never_answers_delays_no_saga(world: &World) -> Result<()> {
    // It accepts connections and never responds.
    let silence = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", silence.local_addr()?);
    let variables = [("OTEL_SDK_DISABLED", "false"), ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    for who in Who::ALL {
        world.terminate(who, 0).await?;
        world.launch(who, 0, &variables).await?;
    }
    for who in Who::ALL {
        world.ready(who).await?;
    }
    let sku = world.stocked(100).await?;
    for _ in 0..20 {
        let id = world.place(&Order::of(&sku, 1)).await?;
        world.event(id, "order.confirmed").await?;
    }
    for who in Who::ALL {
        let (status, took) = world.terminate(who, 0).await?;
        ensure!(status.success() && took < Duration::from_secs(10), "{who}: {status} after {took:?}");
        world.launch(who, 0, &[]).await?;
    }
    for who in Who::ALL {
        world.ready(who).await?;
    }
    Ok(())
}

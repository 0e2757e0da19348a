//! Two flows on one Kafka and one database stay apart.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use saga_tests::{
    Mode, PATIENCE, Who, World, eventually,
    http::{Answer, accepted, send},
    orders::{Order, event, sku},
    own_world,
    service::binary,
};
use serde_json::json;
use uuid::Uuid;

/// The processes in the namespace, in addition to those of the shared environment.
const TRAVEL: u8 = 100;
const VARIABLES: [(&str, &str); 1] = [("SAGA_NAMESPACE", "travel")];

async fn ask(world: &World, who: Who, method: Method, path: &str, body: Option<serde_json::Value>) -> Result<Answer> {
    let url = format!("http://{}{path}", world.addr_of(who, TRAVEL)?);
    let request = reqwest::Client::builder().no_proxy().build()?.request(method, url);
    send(body.iter().fold(request, |request, body| request.json(body))).await
}

async fn ended(world: &World, order: Uuid) -> Result<()> {
    eventually(PATIENCE, "the order in the namespace is confirmed", async || {
        let answer = ask(world, Who::Order, Method::GET, &format!("/orders/{order}"), None).await?;
        ensure!(answer.body["status"] == "confirmed", "{answer:?}");
        Ok(())
    })
    .await
}

#[test]
fn flows_in_two_namespaces_share_a_broker_and_a_database_and_never_meet() {
    own_world(Mode::Live, async |world| {
        futures::future::try_join_all(Who::ALL.map(|who| world.launch(who, TRAVEL, &VARIABLES))).await?;
        for who in Who::ALL {
            eventually(PATIENCE, "ready", async || {
                let answer = ask(world, who, Method::GET, "/readyz", None).await?;
                ensure!(answer.status == 200, "{answer:?}");
                Ok(())
            })
            .await?;
        }
        // The same SKU in both, with one unit in each.
        let sku = sku();
        world.stock(&sku, 1).await?;
        let stock =
            ask(world, Who::Inventory, Method::PUT, &format!("/stock/{sku}"), Some(json!({"quantity": 1}))).await?;
        ensure!(stock.status == 200, "{stock:?}");
        let order = Order::of(&sku, 1);
        let ours = world.place(&order).await?;
        let theirs = accepted(&ask(world, Who::Order, Method::POST, "/orders", Some(order.body())).await?)?;
        world.event(ours, "order.confirmed").await?;
        ended(world, theirs).await?;
        ensure!(
            world.find(Who::Order, &format!("/orders/{theirs}")).await?.is_none(),
            "an order of the other namespace"
        );
        let unknown = ask(world, Who::Order, Method::GET, &format!("/orders/{ours}"), None).await?;
        ensure!(unknown.status == 404, "{unknown:?}");
        ensure!(world.history(theirs).is_empty(), "on our topics: {:?}", world.types(theirs));
        ensure!(world.units(&sku).await? == (0, 1), "each flow has taken its own unit");
        let sandbox = ask(world, Who::Payment, Method::GET, &format!("/sandbox/{theirs}"), None).await?;
        ensure!(sandbox.body["calls"] == 1, "{sandbox:?}");
        ensure!(world.find(Who::Payment, &format!("/sandbox/{theirs}")).await?.is_none(), "the sandbox is shared");

        // Tools find the sagas and the dead letters of the namespace that they are given.
        let poison = Uuid::new_v4();
        let mut record = event("order.created", poison, &json!({"order_id": poison, "name": "Ada"}));
        record.topic = format!("travel.{}", record.topic).into();
        world.publish(vec![record]).await?;
        let inspect = |saga: Uuid, namespace: &str| -> Result<(bool, String)> {
            let mut command = Command::new(binary("saga")?);
            command.args(["inspect", &saga.to_string()]).env("SAGA_NAMESPACE", namespace);
            let output = command.env("KAFKA_BOOTSTRAP_SERVERS", world.broker().bootstrap_servers()).output()?;
            Ok((output.status.success(), String::from_utf8(output.stdout)?))
        };
        let (found, story) = inspect(theirs, "travel")?;
        ensure!(found && story.contains("completed by order.confirmed"), "{story}");
        ensure!(!inspect(theirs, "")?.0, "found without its namespace");
        eventually(PATIENCE, "a dead letter in the namespace", async || {
            let (_, story) = inspect(poison, "travel")?;
            let dead_lettered = story.contains("dead-lettered by reserve: undecodable");
            let group = story.contains("travel.inventory");
            ensure!(dead_lettered && group, "{story}");
            Ok(())
        })
        .await?;
        ensure!(world.letters_of(poison).is_empty(), "dead-lettered outside its namespace");
        for who in Who::ALL {
            let (status, _) = world.terminate(who, TRAVEL).await?;
            ensure!(status.success(), "{who}: {status}");
        }
        world.order(ours).await.context("the others go on")?;
        Ok(())
    });
}

//! HTTP calls on the services of a world.

use anyhow::{Context, Result, ensure};
use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::Value;
use uuid::Uuid;

use super::{Who, World, orders::Order, world::Instance};

/// An answer. The body is null when it is not JSON.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is the part of its name")]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Answer {
    /// A header's text, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether it is an RFC 9457 problem document.
    pub fn is_problem(&self) -> bool {
        self.header("content-type") == "application/problem+json" && self.body["status"] == self.status
    }
}

/// Sends a request.
///
/// # Errors
/// When there is no answer.
pub async fn send(request: RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await?;
    Ok(Answer { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text })
}

impl World {
    /// A request to a service, to be completed and [sent](send).
    ///
    /// # Errors
    /// When the service does not run.
    pub fn request(&self, who: Who, method: Method, path: &str) -> Result<RequestBuilder> {
        Ok(self.http.request(method, format!("http://{}{path}", self.addr(who)?)))
    }

    /// `GET` of a path.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, who: Who, path: &str) -> Result<Answer> {
        send(self.request(who, Method::GET, path)?).await
    }

    /// `GET` of something that may not be there.
    ///
    /// # Errors
    /// When there is another answer than 200 or 404.
    pub async fn find(&self, who: Who, path: &str) -> Result<Option<Value>> {
        let answer = self.get(who, path).await?;
        ensure!(answer.status == 200 || answer.status == 404, "{path}: {answer:?}");
        Ok((answer.status == 200).then_some(answer.body))
    }

    /// Sets what is available of a SKU.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn stock(&self, sku: &str, quantity: i64) -> Result<()> {
        let request = self.request(Who::Inventory, Method::PUT, &format!("/stock/{sku}"))?;
        let answer = send(request.json(&serde_json::json!({"quantity": quantity}))).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    }

    /// A new SKU of which so many are available.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn stocked(&self, quantity: i64) -> Result<String> {
        let sku = super::orders::sku();
        self.stock(&sku, quantity).await?;
        Ok(sku)
    }

    /// How many units of a SKU are available, and how many reserved.
    ///
    /// # Errors
    /// When it was never set.
    pub async fn units(&self, sku: &str) -> Result<(i64, i64)> {
        let stock = self.find(Who::Inventory, &format!("/stock/{sku}")).await?.context("no stock")?;
        let units = |field: &str| stock[field].as_i64().with_context(|| format!("{stock}"));
        Ok((units("available")?, units("reserved")?))
    }

    /// Posts an order.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(&self, order: &Order) -> Result<Answer> {
        send(self.request(Who::Order, Method::POST, "/orders")?.json(&order.body())).await
    }

    /// Places an order.
    ///
    /// # Errors
    /// When it is not accepted.
    pub async fn place(&self, order: &Order) -> Result<Uuid> {
        accepted(&self.post(order).await?)
    }

    /// Asks for a cancellation.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn cancel(&self, order: Uuid) -> Result<Answer> {
        send(self.request(Who::Order, Method::POST, &format!("/orders/{order}/cancel"))?).await
    }

    /// The order as the order service shows it.
    ///
    /// # Errors
    /// When there is none.
    pub async fn order(&self, order: Uuid) -> Result<Value> {
        self.find(Who::Order, &format!("/orders/{order}")).await?.context("no such order")
    }

    /// The order's status.
    ///
    /// # Errors
    /// When there is none.
    pub async fn status(&self, order: Uuid) -> Result<String> {
        Ok(self.order(order).await?["status"].as_str().unwrap_or_default().to_owned())
    }

    /// What the payment service knows, if anything.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn payment(&self, order: Uuid) -> Result<Option<Value>> {
        self.find(Who::Payment, &format!("/payments/{order}")).await
    }

    /// What the gateway knows, if anything.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn sandbox(&self, order: Uuid) -> Result<Option<Value>> {
        self.find(Who::Payment, &format!("/sandbox/{order}")).await
    }

    /// What the shipping service knows, if anything.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn shipment(&self, order: Uuid) -> Result<Option<Value>> {
        self.find(Who::Shipping, &format!("/shipments/{order}")).await
    }

    /// The sum of a metric's series whose labels contain this text; zero when it was never counted.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn metric(&self, who: Who, name: &str, labels: &str) -> Result<f64> {
        Ok(sum(&self.get(who, "/metrics").await?.text, name, labels))
    }

    /// How many partitions one of the service's processes has.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn partitions(&self, who: Who, instance: Instance) -> Result<usize> {
        let url = format!("http://{}/metrics", self.addr_of(who, instance)?);
        let metrics = send(self.http.get(url)).await?.text;
        Ok(metrics.lines().filter(|line| line.starts_with("saga_consumer_lag{")).count())
    }
}

fn sum(metrics: &str, name: &str, labels: &str) -> f64 {
    let series = metrics.lines().filter(|line| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        rest.starts_with(['{', ' ']) && rest.contains(labels)
    });
    series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// The id of an order that was accepted.
///
/// # Errors
/// When it was not.
pub fn accepted(answer: &Answer) -> Result<Uuid> {
    ensure!(answer.status == 202, "{answer:?}");
    answer.body["order_id"].as_str().context("no order_id")?.parse().context("order_id")
}

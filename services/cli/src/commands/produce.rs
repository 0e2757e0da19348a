//! `saga produce` with an order given by flags.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use clap::Args;
use order_flow_events::OrderCreated;
use saga_core::{Event, graph::Choreography};
use uuid::Uuid;

use super::order::OrderArgs;

/// Publish one event, checked against its schema and its rules
#[derive(Args)]
pub(crate) struct ProduceOrder {
    #[command(flatten)]
    produce: saga_tools::Produce,
    /// The same as --data @FILE; - is standard input
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["data", "OrderArgs"])]
    file: Option<PathBuf>,
    /// The order's id, which is the saga's id: the same as --saga-id
    #[arg(long, value_name = "UUID", conflicts_with_all = ["saga_id", "file"])]
    order_id: Option<Uuid>,
    #[command(flatten)]
    order: OrderArgs,
}

impl ProduceOrder {
    pub(crate) fn run(self, flow: &Choreography) -> anyhow::Result<ExitCode> {
        let Self { mut produce, file, order_id, order } = self;
        let is_order = produce.event().split('/').next() == Some(OrderCreated::NAME);
        if !is_order && !order.is_empty() {
            let event = produce.event();
            bail!(
                "{event} is no order: of the flags for its data only --order-id is for it, the rest comes from --data or --field"
            );
        }
        produce = produce.or_saga(order_id);
        if let Some(file) = file {
            produce = produce.or_file(&file);
        } else if is_order {
            let order = serde_json::to_value(order.order(produce.saga().unwrap_or_else(Uuid::now_v7)))?;
            produce = produce.or_data(|| order);
        }
        produce.run(flow)
    }
}

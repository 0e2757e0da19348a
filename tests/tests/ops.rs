//! The metrics that alerts, dashboard and runbook query are exposed, and docs/metrics.md describes every exposed
//! metric.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use saga_tests::{PATIENCE, Who, World, eventually, in_both_modes, orders::Order};
use uuid::Uuid;

in_both_modes![traced_world: queried_metrics_are_exposed_and_exposed_metrics_are_described];

async fn queried_metrics_are_exposed_and_exposed_metrics_are_described(world: &World) -> Result<()> {
    if ["promtool", "jq"].iter().any(|tool| Command::new(tool).arg("--version").output().is_err()) {
        let required = std::env::var("SAGA_REQUIRE_LIVE").is_ok_and(|value| value == "1");
        ensure!(!required, "promtool (which comes with Prometheus) or jq is missing");
        eprintln!("skipped: promtool (which comes with Prometheus) or jq is missing");
        return Ok(());
    }
    // One order per ending: a metric with a label for an ending appears with it.
    let sku = world.stocked(10).await?;
    for (order, status) in [(Order::of(&sku, 1), "confirmed"), (Order::of(&sku, 1).shipped_to("AQ"), "cancelled")] {
        let id = world.place(&order).await?;
        eventually(PATIENCE, "the order ends", async || {
            let is = world.status(id).await?;
            ensure!(is == status, "{is}");
            Ok(())
        })
        .await?;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?;
    let folder = std::env::temp_dir().join(format!("saga-scrapes-{}", Uuid::now_v7().simple()));
    std::fs::create_dir(&folder)?;
    let mut check = Command::new(root.join("scripts/check-ops"));
    for who in Who::ALL {
        let scrape = folder.join(who.to_string());
        std::fs::write(&scrape, world.get(who, "/metrics").await?.text)?;
        check.arg(scrape);
    }
    let checked = check.output().context("scripts/check-ops")?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    Ok(std::fs::remove_dir_all(folder)?)
}

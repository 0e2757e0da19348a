//! The four service binaries as child processes.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::json;

use crate::{demo::http_client::HttpClient, trace_export};

const NAMES: [&str; 4] = ["order", "inventory", "payment", "shipping"];
/// The number of articles that the load orders.
pub(super) const SKUS: usize = 100;
const START: Duration = Duration::from_secs(60);
/// The time a service may take to drain.
const STOP: Duration = Duration::from_secs(12);

pub(super) struct Processes {
    children: Vec<(&'static str, Child, SocketAddr)>,
    folder: PathBuf,
}

impl Processes {
    /// Starts the services and waits until each is ready.
    pub(super) async fn start(broker: &str, database: Option<String>, bin: Option<PathBuf>) -> anyhow::Result<Self> {
        let bin = match bin {
            Some(bin) => bin,
            None => std::env::current_exe()?.parent().map(Path::to_path_buf).unwrap_or_default(),
        };
        let folder = std::env::temp_dir().join(format!("saga-bench-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder)?;
        let mut processes = Self { children: Vec::new(), folder };
        for name in NAMES {
            let program = bin.join(format!("{name}-service"));
            let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            let url = match &database {
                Some(url) => url.clone(),
                None => format!("sqlite://{}", processes.folder.join(format!("{name}.db")).display()),
            };
            let log = std::fs::File::create(processes.folder.join(format!("{name}.log")))?;
            let mut command = Command::new(&program);
            // Export no spans unless the environment configures it: exporting costs CPU time.
            if !trace_export::is_configured() {
                command.env("OTEL_TRACES_EXPORTER", "none");
            }
            let child = command
                .env("KAFKA_BOOTSTRAP_SERVERS", broker)
                .env("DATABASE_URL", url)
                .env("HTTP_ADDR", address.to_string())
                .env("LOG_FORMAT", "json")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .with_context(|| {
                    let program = program.display();
                    format!("{program} cannot be started; build it: cargo build --release --bins (or name its folder: --bin)")
                })?;
            processes.children.push((name, child, address));
        }
        processes.ready().await?;
        Ok(processes)
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let http = HttpClient::default();
        let until = Instant::now() + START;
        for (name, child, address) in &mut self.children {
            loop {
                if let Some(status) = child.try_wait()? {
                    bail!(
                        "the {name} service ended with {status}; see {}",
                        self.folder.join(format!("{name}.log")).display()
                    );
                }
                match http.get(*address, "/readyz").await {
                    Ok(answer) if answer.status.is_success() => break,
                    Ok(answer) if Instant::now() > until => bail!("the {name} service is not ready: {}", answer.body),
                    Err(error) if Instant::now() > until => bail!("the {name} service is not ready: {error}"),
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        }
        Ok(())
    }

    pub(super) async fn fill_stock(&self) -> anyhow::Result<()> {
        let http = HttpClient::default();
        let inventory = self.children.iter().find(|(name, ..)| *name == "inventory").map(|(.., address)| *address);
        let inventory = inventory.context("the inventory service runs")?;
        for sku in 0..SKUS {
            let answer =
                http.put(inventory, &format!("/stock/BENCH-{sku}"), &json!({"quantity": 1_000_000_000})).await?;
            if !answer.status.is_success() {
                return Err(answer.unexpected().into());
            }
        }
        Ok(())
    }

    pub(super) fn pids(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.children.iter().map(|(name, child, _)| (*name, child.id()))
    }

    /// Sends each service SIGTERM and waits for its end.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        for (_, child, _) in &self.children {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
        }
        let until = Instant::now() + STOP;
        for (name, child, _) in &mut self.children {
            while child.try_wait()?.is_none() {
                if Instant::now() > until {
                    bail!("the {name} service did not stop within {STOP:?}");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for (_, child, _) in &mut self.children {
            // A process that has ended cannot be killed, which is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
        if !std::thread::panicking()
            && self.children.iter_mut().all(|(_, c, _)| matches!(c.try_wait(), Ok(Some(s)) if s.success()))
        {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

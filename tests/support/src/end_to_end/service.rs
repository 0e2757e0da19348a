//! A service as a process: its binary, its address, its log, its end.

use std::{
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::cleanup;
use crate::{PATIENCE, eventually};

/// One of the four services.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "each is the service of its name")]
pub enum Who {
    Order,
    Inventory,
    Payment,
    Shipping,
}

impl Who {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Order, Self::Inventory, Self::Payment, Self::Shipping];

    /// The participant's name, which is also its consumer group's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Inventory => "inventory",
            Self::Payment => "payment",
            Self::Shipping => "shipping",
        }
    }

    /// The binary that is built from the workspace.
    ///
    /// # Errors
    /// When it was not built.
    pub fn binary(self) -> Result<PathBuf> {
        binary(&format!("{}-service", self.name()))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A binary of the workspace: it stands beside this one, and tests and examples stand in a folder below.
///
/// # Errors
/// When it was not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps") && !folder.ends_with("examples"))
        .context("no folder")?;
    let path = folder.join(name);
    ensure!(path.exists(), "{} is missing: build it first (cargo build --workspace --bins)", path.display());
    Ok(path)
}

/// A process that runs. It is killed when this is dropped.
pub struct Service {
    child: Child,
    addr: SocketAddr,
}

impl Service {
    /// Starts a service with nothing but these variables, and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub async fn start(who: Who, variables: &[(String, String)], log: &Path) -> Result<Self> {
        let file = fs::File::create(log).with_context(|| log.display().to_string())?;
        let mut command = Command::new(who.binary()?);
        command.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("{who} does not start"))?;
        cleanup::register("process", child.id())?;
        let mut service = Self { child, addr: ([127, 0, 0, 1], 0).into() };
        let started = Instant::now();
        // Not `eventually`: a process that has ended will not listen any more.
        service.addr = loop {
            let said = fs::read_to_string(log)?;
            if let Some(addr) = address(&said) {
                break addr;
            }
            if let Some(status) = service.child.try_wait()? {
                bail!("{who} ended with {status}: {said}");
            }
            ensure!(started.elapsed() < PATIENCE, "{who} does not listen: {said}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        Ok(service)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends a signal, such as `TERM`.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status()?;
        ensure!(sent.success(), "kill -s {signal}: {sent}");
        Ok(())
    }

    /// Kills it at once, as a crash would.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end: how it ended, and after how long.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn ended(self) -> Result<(ExitStatus, Duration)> {
        let started = Instant::now();
        let service = std::sync::Mutex::new(self);
        let status = eventually(PATIENCE, "the process ends", async || {
            let mut service = service.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
            service.child.try_wait()?.context("it runs")
        })
        .await?;
        Ok((status, started.elapsed()))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = cleanup::forget("process", self.child.id());
    }
}

/// The address in the log's line about it.
fn address(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("\"message\":\"listening\""))?;
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line["addr"].as_str()?.parse().ok()
}

//! A world: the four services as processes, with a broker and databases of its own.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::ExitStatus,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

use super::{Mode, Who, broker::Broker, cleanup, database, records::Records, service::Service};
use crate::{PATIENCE, eventually, postgres_url, proxy::Proxy};

/// Which of the processes of a service; there is one, unless a test starts more.
pub type Instance = u8;

/// The four services, their broker and their databases.
pub struct World {
    /// What it runs on.
    pub mode: Mode,
    folder: PathBuf,
    broker: Broker,
    /// The URL of the one database of all services, on PostgreSQL, by way of the proxy.
    postgres: Option<(String, Proxy)>,
    services: Mutex<BTreeMap<(Who, Instance), Service>>,
    started: AtomicU32,
    pub(crate) http: reqwest::Client,
    pub(crate) records: Records,
}

impl World {
    /// Starts a world and waits until all four services are ready.
    ///
    /// # Errors
    /// When one of them is not.
    pub async fn start(mode: Mode) -> Result<Self> {
        Self::start_with(mode, &[]).await
    }

    /// As [`World::start`], with these variables besides the usual ones.
    ///
    /// # Errors
    /// When one of them is not ready.
    pub async fn start_with(mode: Mode, variables: &[(&str, &str)]) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("saga-tests-{}", Uuid::new_v4().simple()));
        fs::create_dir_all(&folder)?;
        cleanup::register("folder", folder.display())?;
        let postgres = async {
            match mode {
                Mode::Embedded => Ok(None),
                Mode::Live => {
                    let url = database::create(&database::server().await?).await?;
                    let address = postgres_url::address(&url).context("TEST_DATABASE_URL is not a URL")?;
                    let proxy = Proxy::to(address).await?;
                    let url = postgres_url::at(&url, proxy.addr()).context("TEST_DATABASE_URL is not a URL")?;
                    Ok::<_, anyhow::Error>(Some((url, proxy)))
                }
            }
        };
        let (broker, postgres) = futures::try_join!(Broker::start(mode), postgres)?;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build()?;
        let records = Records::read(&broker)?;
        let (services, started) = (Mutex::default(), AtomicU32::new(0));
        let world = Self { mode, folder, broker, postgres, services, started, http, records };
        let all = async {
            futures::future::try_join_all(Who::ALL.map(|who| world.launch(who, 0, variables))).await?;
            futures::future::try_join_all(Who::ALL.map(|who| world.ready(who))).await
        };
        if let Err(error) = all.await {
            world.show_logs();
            return Err(error);
        }
        Ok(world)
    }

    /// What a service of this world is started with. A later variable wins over an earlier one of the same name.
    pub fn variables(&self, who: Who, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let database = match &self.postgres {
            Some((url, _)) => url.clone(),
            None => format!("sqlite://{}/{who}.db", self.folder.display()),
        };
        let own = [
            ("HTTP_ADDR", "127.0.0.1:0"),
            ("KAFKA_BOOTSTRAP_SERVERS", self.broker.bootstrap_servers()),
            ("DATABASE_URL", &database),
            ("LOG_FORMAT", "json"),
            ("OTEL_SDK_DISABLED", "true"),
            // The least that Kafka allows: the tests that kill wait for it.
            ("KAFKA_CFG_SESSION_TIMEOUT_MS", "6000"),
        ];
        let all = own.iter().chain(self.broker.variables()).chain(more);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// Starts a process of a service, with these variables besides the usual ones. It listens when this returns.
    ///
    /// # Errors
    /// When it does not.
    pub async fn launch(&self, who: Who, instance: Instance, variables: &[(&str, &str)]) -> Result<()> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.folder.join(format!("{number:03}-{who}-{instance}.log"));
        let service = Service::start(who, &self.variables(who, variables), &log).await?;
        self.services().insert((who, instance), service);
        Ok(())
    }

    /// Waits until a service is ready.
    ///
    /// # Errors
    /// When it is not: says what it waits for.
    pub async fn ready(&self, who: Who) -> Result<()> {
        eventually(PATIENCE, &format!("{who} is ready"), async || {
            let answer = self.get(who, "/readyz").await?;
            ensure!(answer.status == 200, "{}", answer.text);
            Ok(())
        })
        .await
    }

    /// Kills a process at once, as a crash would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, who: Who, instance: Instance) -> Result<()> {
        self.take(who, instance)?.kill()
    }

    /// Tells a process to stop, and waits for its end: how it ended, and after how long.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn terminate(&self, who: Who, instance: Instance) -> Result<(ExitStatus, Duration)> {
        let service = self.take(who, instance)?;
        service.signal("TERM")?;
        service.ended().await
    }

    /// Sends a process a signal that does not end it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, who: Who, signal: &str) -> Result<()> {
        self.services().get(&(who, 0)).with_context(|| format!("{who} does not run"))?.signal(signal)
    }

    /// Where a service listens: its first process, when there are several.
    ///
    /// # Errors
    /// When it does not run.
    pub fn addr(&self, who: Who) -> Result<SocketAddr> {
        let services = self.services();
        let first = services.range((who, 0)..=(who, Instance::MAX)).next();
        Ok(first.with_context(|| format!("{who} does not run"))?.1.addr())
    }

    /// Where one of its processes listens.
    ///
    /// # Errors
    /// When it does not run.
    pub fn addr_of(&self, who: Who, instance: Instance) -> Result<SocketAddr> {
        Ok(self.services().get(&(who, instance)).with_context(|| format!("{who} does not run"))?.addr())
    }

    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The proxy in front of PostgreSQL; none on SQLite.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.postgres.as_ref().map(|(_, proxy)| proxy)
    }

    /// Shows the end of each service's log, and keeps them all.
    pub fn show_logs(&self) {
        let _ = cleanup::forget("folder", self.folder.display());
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut logs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.sort();
        for log in logs {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            eprintln!("--- the end of {}", log.display());
            lines[lines.len().saturating_sub(12)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }

    /// Every line that any service has logged.
    ///
    /// # Errors
    /// When the logs cannot be read.
    pub fn logs(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let said = fs::read_to_string(&path)?;
                // The last one may not be written to its end yet.
                let whole = said.rfind('\n').and_then(|end| said.get(..end)).unwrap_or_default();
                lines.extend(whole.lines().map(str::to_owned));
            }
        }
        Ok(lines)
    }

    /// Lines of any log that tell of a panic.
    ///
    /// # Errors
    /// When the logs cannot be read.
    pub fn panics(&self) -> Result<Vec<String>> {
        Ok(self.logs()?.into_iter().filter(|line| line.contains("panicked")).collect())
    }

    fn take(&self, who: Who, instance: Instance) -> Result<Service> {
        self.services().remove(&(who, instance)).with_context(|| format!("{who} does not run"))
    }

    fn services(&self) -> MutexGuard<'_, BTreeMap<(Who, Instance), Service>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

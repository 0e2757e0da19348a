//! Starting: invalid settings, and a broker or a database that is not there yet.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use saga_tests::{
    Mode, PATIENCE, Who,
    broker::Broker,
    database, eventually,
    http::send,
    janitor,
    service::{Service, binary},
};
use tokio::{io::copy_bidirectional, net::TcpListener};
use uuid::Uuid;

const NO_BROKER: (&str, &str) = ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1");
const FREE: (&str, &str) = ("HTTP_ADDR", "127.0.0.1:0");
const MEMORY: (&str, &str) = ("DATABASE_URL", "sqlite::memory:");

fn block_on(test: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(test)
}

/// A file that is removed at the end.
fn log() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("saga-tests-{}", Uuid::new_v4().simple()));
    fs::create_dir_all(&folder)?;
    janitor::tell("folder", folder.display())?;
    Ok(folder.join("log"))
}

/// Runs a service that ends by itself. Returns its exit code and its output.
async fn refused(who: Who, variables: &[(&str, &str)]) -> Result<(Option<i32>, String)> {
    let log = log()?;
    let mut command = Command::new(who.binary()?);
    command.env_clear().envs(variables.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.stderr(fs::File::create(&log)?).spawn()?;
    janitor::tell("child", child.id())?;
    let child = Mutex::new(child);
    let status = eventually(Duration::from_secs(15), &format!("{who} ends with {variables:?}"), async || {
        let mut child = child.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
        child.try_wait()?.context("it runs")
    })
    .await?;
    Ok((status.code(), fs::read_to_string(&log)?))
}

async fn start(who: Who, variables: &[(&str, &str)]) -> Result<Service> {
    let json = [("LOG_FORMAT", "json"), FREE];
    let all = json.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Service::start(who, &all.collect::<Vec<_>>(), &log()?).await
}

/// Waits until `/readyz` has this status, and its body contains the text.
async fn ready(service: &Service, status: u16, text: &str) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let url = |path: &str| format!("http://{}{path}", service.addr());
    eventually(PATIENCE, &format!("readiness {status} {text}"), async || {
        let answer = send(http.get(url("/readyz"))).await?;
        ensure!(answer.status == status && answer.text.contains(text), "{answer:?}");
        ensure!(answer.body["ready"] == (status == 200), "{answer:?}");
        Ok(())
    })
    .await?;
    ensure!(send(http.get(url("/livez"))).await?.status == 200, "it lives while it waits");
    Ok(())
}

async fn stops_at_once(service: Service) -> Result<()> {
    service.signal("TERM")?;
    let (status, took) = service.ended().await?;
    ensure!(status.code() == Some(0) && took < Duration::from_secs(5), "{status} after {took:?}");
    Ok(())
}

#[test]
fn every_service_names_a_wrong_variable_in_one_line_and_ends_at_once() -> Result<()> {
    let cases: &[(&str, &str)] = &[
        ("HTTP_ADDR", "8081"),
        ("DATABASE_URL", "mysql://root:hunter2@localhost/x"),
        ("DATABASE_URL", "sqlite:///dev/null/x.db"),
        ("DATABASE_URL_FILE", "/nonexistent"),
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost:port"),
        ("KAFKA_CFG_NO_SUCH_THING", "hunter2"),
        ("KAFKA_CFG_GROUP_ID", "mine"),
        ("SAGA_TOPIC_PARTITIONS", "0"),
        ("SAGA_TOPIC_REPLICATION_FACTOR", "none"),
        ("SAGA_INSTANCE_ID", "a b"),
        ("RUST_LOG", "info=what=ever"),
        ("LOG_FORMAT", "xml"),
    ];
    block_on(async {
        for who in Who::ALL {
            let own: &[(&str, &str)] = if who == Who::Order { &[("SAGA_DEADLINE", "soon")] } else { &[] };
            for (variable, value) in cases.iter().chain(own) {
                let mut variables = vec![FREE, NO_BROKER];
                if !variable.starts_with("DATABASE_URL") {
                    variables.push(MEMORY);
                }
                variables.retain(|(name, _)| name != variable);
                variables.push((variable, value));
                let (code, said) = refused(who, &variables).await?;
                ensure!(code.is_some_and(|code| code != 0), "{who} with {variable}={value}: {code:?}: {said}");
                ensure!(said.contains(&format!("{variable}: ")), "{who} with {variable}={value}: {said}");
                ensure!(!said.contains("hunter2"), "{who} shows a secret: {said}");
                // A file that cannot exist is reported after the log has started.
                ensure!(said.lines().count() == 1 || said.contains("cannot go on"), "{who}: {said}");
            }
        }
        Ok(())
    })
}

#[test]
fn an_address_that_is_taken_ends_the_service_with_one_line() -> Result<()> {
    block_on(async {
        let taken = TcpListener::bind("127.0.0.1:0").await?;
        let addr = taken.local_addr()?.to_string();
        for who in Who::ALL {
            let (code, said) = refused(who, &[MEMORY, NO_BROKER, ("HTTP_ADDR", &addr)]).await?;
            ensure!(code == Some(1) && said.contains("HTTP_ADDR: "), "{who}: {code:?}: {said}");
        }
        Ok(())
    })
}

#[test]
fn a_service_waits_for_its_broker_says_so_and_works_when_it_comes() -> Result<()> {
    block_on(async {
        let broker = Broker::start(Mode::Embedded).await?;
        let Broker::Embedded(switch) = &broker else { unreachable!("the mode says so") };
        switch.set_reachable(false);
        let address = broker.bootstrap_servers();
        let variables = [MEMORY, ("KAFKA_BOOTSTRAP_SERVERS", address), ("KAFKA_CFG_FETCH_WAIT_MAX_MS", "5")];
        let services = futures::future::try_join_all(Who::ALL.map(|who| start(who, &variables))).await?;
        for service in &services {
            ready(service, 503, address).await?;
        }
        switch.set_reachable(true);
        for service in &services {
            ready(service, 200, "true").await?;
        }
        // When it goes away again, it is reported again.
        switch.set_reachable(false);
        for service in &services {
            ready(service, 503, address).await?;
        }
        switch.set_reachable(true);
        for service in &services {
            ready(service, 200, "true").await?;
        }
        futures::future::try_join_all(services.into_iter().map(stops_at_once)).await?;
        Ok(())
    })
}

#[test]
fn a_service_waits_for_its_database_says_so_and_stops_when_it_is_told() -> Result<()> {
    block_on(async {
        for who in Who::ALL {
            let database = ("DATABASE_URL", "postgres://nobody:hunter2@127.0.0.1:1/nothing");
            let service = start(who, &[database, NO_BROKER]).await?;
            ready(&service, 503, "127.0.0.1:1").await?;
            let http = reqwest::Client::builder().no_proxy().build()?;
            let path = ["/orders/x", "/stock/x", "/payments/x", "/shipments/x"][who as usize];
            let answer = send(http.get(format!("http://{}{path}", service.addr()))).await?;
            ensure!(answer.status == 503 && answer.is_problem(), "{answer:?}");
            let ready = send(http.get(format!("http://{}/readyz", service.addr()))).await?;
            ensure!(!ready.text.contains("hunter2"), "{ready:?}");
            stops_at_once(service).await?;
        }
        Ok(())
    })
}

#[test]
fn a_service_works_when_its_database_comes_and_ends_when_it_can_never_be() -> Result<()> {
    if !Mode::Live.is_available() {
        return Ok(());
    }
    block_on(async {
        let server = database::server().await?;
        let (missing, code_and_word) = (database::named(&server, "no_such_database")?, "no_such_database");
        let (code, said) = refused(Who::Order, &[FREE, NO_BROKER, ("DATABASE_URL", &missing)]).await?;
        ensure!(code.is_some_and(|code| code != 0), "{code:?}: {said}");
        ensure!(said.contains("DATABASE_URL: ") && said.contains(code_and_word), "{said}");

        let broker = Broker::start(Mode::Embedded).await?;
        let database = database::create(&server).await?;
        let behind = database::address(&database)?;
        // A port that is known before anything listens on it.
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let in_front = database.replacen(&behind, &port.to_string(), 1);
        let service = start(
            Who::Order,
            &[
                ("DATABASE_URL", &in_front),
                ("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers()),
                ("KAFKA_CFG_FETCH_WAIT_MAX_MS", "5"),
            ],
        )
        .await?;
        ready(&service, 503, &port.to_string()).await?;
        let door = TcpListener::bind(port).await?;
        let open = tokio::spawn(async move {
            while let Ok((mut from, _)) = door.accept().await {
                let behind = behind.clone();
                tokio::spawn(async move {
                    let mut to = tokio::net::TcpStream::connect(behind).await?;
                    copy_bidirectional(&mut from, &mut to).await
                });
            }
        });
        ready(&service, 200, "true").await?;
        let result = stops_at_once(service).await;
        open.abort();
        result
    })
}

/// The output of a program that ends by itself.
fn printed(path: PathBuf, args: &[&str]) -> Result<String> {
    let output = Command::new(path).args(args).env_clear().envs([NO_BROKER]).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn services_print_the_declarations_of_the_flow_without_broker_and_database() -> Result<()> {
    let log = log()?;
    let folder = log.parent().context("no folder")?;
    for who in Who::ALL {
        fs::write(folder.join(format!("{who}.json")), printed(who.binary()?, &["--describe"])?)?;
    }
    let (saga, folder) = (binary("saga")?, folder.display().to_string());
    let checked = printed(saga.clone(), &["--flow", &folder, "check"])?;
    ensure!(checked.contains("no findings"), "{checked}");
    // Given in the right order, they are exactly the flow that is built into `saga`.
    let files = Who::ALL.map(|who| format!("{folder}/{who}.json"));
    let named: Vec<&str> = files.iter().flat_map(|file| ["--flow", file]).chain(["graph", "--json"]).collect();
    ensure!(printed(saga.clone(), &named)? == printed(saga.clone(), &["graph", "--json"])?);
    // A running service serves the same declaration; it is the last of four sources.
    fs::remove_file(format!("{folder}/order.json"))?;
    block_on(async {
        let order = start(Who::Order, &[NO_BROKER, MEMORY]).await?;
        let url = format!("http://{}", order.addr());
        let args = ["--flow", folder.as_str(), "--flow", url.as_str(), "check"].map(str::to_owned);
        let checked =
            tokio::task::spawn_blocking(move || printed(saga, &args.each_ref().map(String::as_str))).await??;
        ensure!(checked.contains("no findings"), "{checked}");
        Ok(())
    })
}

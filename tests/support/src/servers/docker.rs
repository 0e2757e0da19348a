//! Docker as this process uses it: whether it is there, which images it has, and how a container is started.
//!
//! testcontainers starts, waits and pulls. What is here besides: whether a test can have a container at all, which must be
//! known before it starts, since it is skipped otherwise; ports on loopback alone, which testcontainers opens to everybody;
//! and a port that is chosen beforehand, which a Kafka must be told and keeps when it comes back. (testcontainers-modules
//! lets Docker choose it, anew at each start.)

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    future::Future,
    io::Write,
    process::Stdio,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt,
    bollard::models::PortBinding,
    core::{WaitFor, client::docker_client_instance},
    runners::AsyncRunner,
};
use tokio::{process::Command, runtime::Runtime, time::timeout};

use crate::servers::{Server, remover};

pub(crate) type Container = ContainerAsync<GenericImage>;

/// Longer than a start takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than a Docker takes that answers at all.
const ANSWER: Duration = Duration::from_secs(10);
/// Longer than an image takes that comes at all.
const PULL: Duration = Duration::from_secs(600);

/// It outlives every test, whose own runtime does not: Docker's connections live in it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap_or_else(|error| panic!("no async runtime: {error}"))
});

/// Waits, also in a test that has a runtime: from a thread that has none.
pub(crate) fn wait<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| RUNTIME.block_on(future)).join();
        waiting.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Why no container can be started, and what helps.
#[derive(Clone)]
pub(crate) struct Lack {
    pub(crate) why: String,
    pub(crate) remedy: String,
}

/// Whether containers of this server can be started. What was found out stays so for this process.
pub(crate) fn has(server: Server) -> Result<(), Lack> {
    static DOCKER: LazyLock<Result<(), Lack>> = LazyLock::new(|| {
        if std::env::var("SAGA_TEST_CONTAINERS").is_ok_and(|wanted| wanted == "0") {
            let why = "SAGA_TEST_CONTAINERS=0 wants no containers".to_owned();
            return Err(Lack { why, remedy: "Unset that".to_owned() });
        }
        if let Some(host) = std::env::var_os("DOCKER_HOST")
            && !is_on_this_machine(&host.to_string_lossy())
        {
            let why = format!("DOCKER_HOST is {host:?}, and containers are looked for on this machine alone");
            return Err(Lack { why, remedy: "Let that be a socket here (unix://...), or unset it".to_owned() });
        }
        wait(answers()).map_err(|error| Lack { why: format!("{error:#}"), remedy: "Start Docker".to_owned() })
    });
    static IMAGES: Mutex<BTreeMap<Server, Result<(), Lack>>> = Mutex::new(BTreeMap::new());
    DOCKER.clone()?;
    let mut images = IMAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let find = || {
        let remedy = || format!("Name one that can be had in {}", server.image_variable());
        wait(find(&server.image())).map_err(|error| Lack { why: format!("{error:#}"), remedy: remedy() })
    };
    images.entry(server).or_insert_with(find).clone()
}

async fn answers() -> Result<()> {
    let asking = async { anyhow::Ok(docker_client_instance().await?.info().await?) };
    let info = timeout(ANSWER, asking).await.context("Docker does not answer")?;
    let id = info.context("Docker does not answer")?.id.unwrap_or_default();
    // The command removes what this process starts: it must mean the same Docker.
    let mut command = Command::new("docker");
    command.args(["info", "-f", "{{.ID}}"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(ANSWER, command.output()).await.context("the command docker does not answer")?;
    let output = output.context("the command docker is missing")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the command docker does not reach its Docker: {}", error.trim());
    are_the_same(&id, String::from_utf8_lossy(&output.stdout).trim())
}

/// Ports of containers are on the loopback of Docker's machine.
fn is_on_this_machine(host: &str) -> bool {
    ["unix://", "npipe://"].iter().any(|here| host.starts_with(here))
}

fn are_the_same(id: &str, commands: &str) -> Result<()> {
    ensure!(!id.is_empty() && !commands.is_empty(), "Docker does not say which one it is");
    ensure!(id == commands, "the command docker speaks to another Docker ({commands}): set DOCKER_HOST");
    Ok(())
}

/// Pulls the image where it is missing.
async fn find(image: &str) -> Result<()> {
    if docker_client_instance().await?.inspect_image(image).await.is_ok() {
        return Ok(());
    }
    // Not by eprintln, which the test harness keeps for itself: this takes minutes.
    let _ = writeln!(std::io::stderr(), "Pulling {image}, the first time ...");
    let pulled = timeout(PULL, generic(image).pull_image()).await;
    let pulled = pulled.with_context(|| format!("an image is missing: {image} was not pulled within {PULL:?}"))?;
    pulled.map(drop).context("an image is missing")
}

pub(crate) fn generic(image: &str) -> GenericImage {
    // The colon of a registry's port is no tag's.
    let name_and_tag = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let (name, tag) = name_and_tag.unwrap_or((image, "latest"));
    GenericImage::new(name, tag)
}

/// Somebody else has the port that a container was to have: an error of [`start`] may be one.
#[derive(Debug)]
pub(crate) struct PortTaken;

impl fmt::Display for PortTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("somebody else has its port")
    }
}

impl PortTaken {
    /// Docker has no code for it.
    fn is_meant_by(error: &str) -> bool {
        ["port is already allocated", "address already in use"].iter().any(|text| error.contains(text))
    }
}

/// Starts a container and waits until it has said all of `ready`. It is removed when it is dropped or this process ends.
/// The port is open to this machine alone; None lets Docker choose one.
pub(crate) async fn start(
    server: Server,
    (inside, outside): (u16, Option<u16>),
    ready: &[WaitFor],
    set_up: impl FnOnce(ContainerRequest<GenericImage>) -> ContainerRequest<GenericImage>,
) -> Result<Container> {
    let image = ready.iter().cloned().fold(generic(&server.image()), GenericImage::with_wait_for);
    let label = remover::label()?;
    let request =
        image.with_startup_timeout(PATIENCE).with_label(remover::LABEL, label).with_host_config_modifier(move |host| {
            let outside = PortBinding {
                host_ip: Some("127.0.0.1".to_owned()),
                host_port: Some(outside.map(|port| port.to_string()).unwrap_or_default()),
            };
            host.publish_all_ports = Some(false);
            host.port_bindings = Some(HashMap::from([(format!("{inside}/tcp"), Some(vec![outside]))]));
        });
    let run = std::env::var("SAGA_TEST_RUN").ok().filter(|run| !run.is_empty());
    let request = run.into_iter().fold(request, |request, run| request.with_label(remover::RUN_LABEL, run));
    set_up(request).start().await.map_err(|error| {
        let is_port_taken = PortTaken::is_meant_by(&error.to_string());
        let error = anyhow!("the container of {} does not start: {error}", server.image());
        if is_port_taken { error.context(PortTaken) } else { error }
    })
}

#[cfg(test)]
mod tests {
    use testcontainers::Image as _;

    use super::{PortTaken, are_the_same, is_on_this_machine};

    #[test]
    fn a_docker_elsewhere_is_known_by_its_address() {
        assert!(
            is_on_this_machine("unix:///var/run/docker.sock") && is_on_this_machine("npipe:////./pipe/docker_engine")
        );
        for host in ["tcp://127.0.0.1:2375", "ssh://build@machine", "https://docker:2376", ""] {
            assert!(!is_on_this_machine(host), "{host}");
        }
    }

    #[test]
    fn a_docker_that_does_not_say_which_one_it_is_is_not_taken_for_the_same() {
        assert!(are_the_same("1c2d", "1c2d").is_ok());
        for (id, commands) in [("1c2d", "3e4f"), ("1c2d", ""), ("", "1c2d"), ("", "")] {
            assert!(are_the_same(id, commands).is_err(), "{id:?} {commands:?}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_known_by_what_docker_says() {
        for error in [
            "Docker responded with status code 500: driver failed programming external connectivity on endpoint great_ride: \
             Bind for 127.0.0.1:23004 failed: port is already allocated",
            "failed to bind host port 127.0.0.1:23004/tcp: address already in use",
            "Error starting userland proxy: listen tcp4 127.0.0.1:23004: bind: address already in use",
        ] {
            assert!(PortTaken::is_meant_by(error), "{error}");
        }
        assert!(!PortTaken::is_meant_by("no space left on device"));
    }

    #[test]
    fn an_image_may_name_a_registry_a_tag_and_a_digest_or_none_of_them() {
        for (given, name, tag) in [
            ("postgres", "postgres", "latest"),
            ("postgres:17.6", "postgres", "17.6"),
            ("mirror:5000/apache/kafka", "mirror:5000/apache/kafka", "latest"),
            ("mirror:5000/apache/kafka:4.3.1", "mirror:5000/apache/kafka", "4.3.1"),
            // Docker is given both as they are here, with a colon between.
            ("postgres@sha256:0123", "postgres@sha256", "0123"),
        ] {
            let image = super::generic(given);
            assert_eq!((image.name(), image.tag()), (name, tag));
        }
    }
}

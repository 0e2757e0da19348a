//! Containers of a test process: they are its own, and none is left behind, however it ends.
//!
//! The tests start processes of this very program and look at their containers from outside.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may fail so; the child reports"
)]
#![cfg(feature = "servers")]

use std::{
    io::{BufRead, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};
use saga_test_support::{
    servers::{Kafka, Server, Source, Verb},
    wait_for,
};

/// Tells the child what to do.
const CHILD: &str = "SAGA_TEST_SUPPORT_CHILD";

/// Started by the tests below.
#[test]
#[ignore = "a test starts it"]
fn a_process_with_containers() {
    let Ok(task) = std::env::var(CHILD) else { return };
    if task == "own" {
        let kafka = Kafka::new(&Source::Container).unwrap();
        kafka.run(Verb::Start).unwrap();
        return;
    }
    if task == "taken" {
        let kafka = Kafka::new(&Source::Container).unwrap();
        let _taken = TcpListener::bind(kafka.address()).unwrap();
        return println!("{:#}", kafka.run(Verb::Start).unwrap_err());
    }
    let addresses = match task.as_str() {
        "kafka" => saga_test_support::servers::kafka(),
        "kafka twice" => saga_test_support::servers::kafka().or_else(saga_test_support::servers::kafka),
        "fail" | "postgres" => saga_test_support::servers::postgres(),
        _ => saga_test_support::servers::kafka()
            .zip(saga_test_support::servers::postgres())
            .map(|(kafka, url)| format!("{kafka} {url}")),
    };
    let Some(addresses) = addresses else { return };
    println!("ready {addresses}");
    assert_ne!(task, "fail", "as it was told");
    // Until it is killed, or told to end.
    let _ = std::io::stdin().lines().next();
}

/// A process that has, or will have, containers. It is killed with this value.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(task: &str) -> Self {
        Self::spawn(&mut command(task))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until its containers run: what it says of them.
    fn ready(&mut self) -> String {
        let mut lines = self.lines.by_ref().map_while(Result::ok);
        let ready = lines.find_map(|line| line.split_once("ready ").map(|(_, it)| it.to_owned()));
        ready.expect("the process ended early")
    }

    fn containers(&self) -> Vec<String> {
        containers(self.child.id())
    }

    /// As `kill -9` does it.
    fn kill(mut self) -> u32 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(task: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_process_with_containers", "--ignored", "--nocapture"]);
    command.env(CHILD, task);
    for name in ["KAFKA_BOOTSTRAP_SERVERS", "TEST_DATABASE_URL", "SAGA_REQUIRE_LIVE", "SAGA_TEST_CONTAINERS"] {
        command.env_remove(name);
    }
    command
}

/// What a process without containers says, all in all.
fn said(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    (output, String::from_utf8_lossy(&said).into_owned())
}

/// Those of a process, also when they do not run.
fn containers(process: u32) -> Vec<String> {
    let format = "{{.Label \"saga.tests\"}} {{.ID}} {{.Image}} {{.Ports}}";
    let mut docker = Command::new("docker");
    let listed = docker.args(["ps", "--all", "--filter", "label=saga.tests", "--format", format]).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let prefix = format!("{process}-");
    let lines = String::from_utf8(listed.stdout).unwrap();
    lines.lines().filter(|line| line.starts_with(&prefix)).map(str::to_owned).collect()
}

fn becomes(what: &str, condition: impl FnMut() -> bool) {
    let started = Instant::now();
    wait_for(condition, |holds| *holds);
    println!("{what}: after {:?}", started.elapsed());
}

fn none_is_left(process: u32) {
    becomes("no container is left", || containers(process).is_empty());
}

/// False where tests use servers that run already: then this process starts no container either.
fn uses_containers() -> bool {
    let uses = [Server::Kafka, Server::Postgres].map(Server::source);
    let uses = uses.iter().all(|source| matches!(source, Some(Source::Container)));
    if !uses {
        eprintln!("skipped: no containers are used");
    }
    uses
}

#[test]
fn a_killed_process_leaves_no_containers() {
    if !uses_containers() {
        return;
    }
    let mut process = Process::start("both");
    println!("{}", process.ready());
    let running = process.containers();
    assert_eq!(running.len(), 2, "{running:?}");
    // Nothing in there asks anybody who he is.
    assert!(
        running.iter().all(|container| container.contains("127.0.0.1:") && !container.contains("0.0.0.0")),
        "{running:?}"
    );
    none_is_left(process.kill());
}

#[test]
fn a_process_that_is_killed_while_its_container_starts_leaves_none() {
    if !uses_containers() {
        return;
    }
    let process = Process::start("kafka");
    becomes("a container is made", || !process.containers().is_empty());
    none_is_left(process.kill());
}

#[test]
fn a_failed_test_leaves_no_containers() {
    if !uses_containers() {
        return;
    }
    let child = command("fail").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let process = child.id();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("ready postgres://"), "{output:?}");
    none_is_left(process);
}

#[test]
fn processes_that_run_at_once_have_containers_of_their_own() {
    if !uses_containers() {
        return;
    }
    let (mut one, mut other) = (Process::start("postgres"), Process::start("postgres"));
    assert_ne!(one.ready(), other.ready());
    let gone = one.kill();
    none_is_left(gone);
    assert_eq!(other.containers().len(), 1, "the other's container is not touched");
    // An end without a fault.
    drop(other.child.stdin.take());
    assert!(other.child.wait().unwrap().success());
    none_is_left(other.child.id());
}

#[test]
fn containers_are_known_by_the_run_they_belong_to() {
    if !uses_containers() {
        return;
    }
    let run = format!("run-of-{}", std::process::id());
    let mut process = Process::spawn(command("postgres").env("SAGA_TEST_RUN", &run));
    process.ready();
    let filter = format!("label=saga.tests.run={run}");
    let listed = Command::new("docker").args(["ps", "--quiet", "--filter", &filter]).output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 1);
    none_is_left(process.kill());
}

#[test]
fn a_kafka_that_was_killed_comes_back_where_it_was_with_what_it_had() {
    if !uses_containers() {
        return;
    }
    let kafka = Kafka::new(&Source::Container).unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.address()).set("reconnect.backoff.max.ms", "200");
    let client: BaseConsumer = config.create().unwrap();
    let cluster = || client.client().fetch_cluster_id(Duration::from_secs(2));
    assert_eq!(cluster(), None);
    kafka.run(Verb::Start).unwrap();
    becomes("it answers", || cluster().is_some());
    let id = cluster();
    kafka.run(Verb::Kill).unwrap();
    kafka.run(Verb::Start).unwrap();
    becomes("it is back", || client.fetch_metadata(None, Duration::from_secs(2)).is_ok());
    assert_eq!(cluster(), id);
    kafka.run(Verb::Pause).unwrap();
    assert!(client.fetch_metadata(None, Duration::from_secs(1)).is_err());
    kafka.run(Verb::Resume).unwrap();
    becomes("it goes on", || client.fetch_metadata(None, Duration::from_secs(2)).is_ok());
    kafka.run(Verb::Stop).unwrap();
    drop(kafka);
    assert_eq!(containers(std::process::id()), Vec::<String>::new());
}

#[test]
fn a_port_that_somebody_has_taken_is_named_and_the_container_removed() {
    if !uses_containers() {
        return;
    }
    let child = command("taken").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let process = child.id();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("somebody else has its port: the container of "), "{output:?}");
    none_is_left(process);
}

#[test]
fn a_kafka_is_left_where_that_is_asked_for() {
    if !uses_containers() {
        return;
    }
    let mut child = command("own").env("TESTCONTAINERS_COMMAND", "keep").spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let left = containers(child.id());
    for container in &left {
        let id = container.split(' ').nth(1).unwrap();
        let removed = Command::new("docker").args(["rm", "--force", "--volumes", id]).output().unwrap();
        assert!(removed.status.success(), "{removed:?}");
    }
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn an_image_that_cannot_be_had_is_named() {
    if !uses_containers() {
        return;
    }
    let image = "localhost:1/saga/no-such-image:7";
    let (output, text) = said(command("kafka twice").env("KAFKA_IMAGE", image));
    assert!(output.status.success(), "{text}");
    let parts =
        ["skipped: there is no Kafka: an image is missing: failed to pull", image, "in KAFKA_IMAGE, or set KAFKA_BOOT"];
    for part in parts {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // What cannot be had is not asked for again.
    assert_eq!(text.matches("Pulling").count(), 1, "{text}");
}

#[test]
fn without_docker_a_test_is_skipped_and_says_what_to_do() {
    for (variable, value, what_to_do) in [
        ("DOCKER_HOST", "unix:///nowhere/docker.sock", "Start Docker, or set KAFKA_BOOTSTRAP_SERVERS"),
        ("DOCKER_HOST", "tcp://127.0.0.1:1", "Let that be a socket here (unix://...), or unset it, or set KAFKA_"),
        (
            "SAGA_TEST_CONTAINERS",
            "0",
            "SAGA_TEST_CONTAINERS=0 wants no containers. Unset that, or set KAFKA_BOOTSTRAP_SERVERS",
        ),
    ] {
        let mut child = command("both");
        child.env(variable, value);
        let (output, text) = said(&mut child);
        assert!(output.status.success() && !text.contains("ready"), "{text}");
        assert!(text.contains("skipped: there is no Kafka") && text.contains(what_to_do), "{text}");
        let (output, text) = said(child.env("SAGA_REQUIRE_LIVE", "1"));
        assert!(!output.status.success(), "{text}");
        assert!(text.contains("SAGA_REQUIRE_LIVE=1, and there is no Kafka") && text.contains(what_to_do), "{text}");
    }
}

#[test]
fn a_skipped_test_says_so_once_even_though_it_passes() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    // Without --nocapture: what a passing test prints is not shown.
    child.args(["--exact", "a_process_with_containers", "--ignored"]).env(CHILD, "kafka twice");
    child.env_remove("KAFKA_BOOTSTRAP_SERVERS").env_remove("SAGA_REQUIRE_LIVE").env("SAGA_TEST_CONTAINERS", "0");
    let (output, text) = said(&mut child);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("skipped: there is no Kafka").count(), 1, "{text}");
}

#[test]
fn a_test_that_was_promised_a_container_fails_without_one() {
    let mut child = command("kafka");
    child.env("SAGA_TEST_CONTAINERS", "1").env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let (output, text) = said(&mut child);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("SAGA_TEST_CONTAINERS=1, and there is no Kafka: Docker does not answer"), "{text}");
}

#[test]
fn a_server_that_is_named_is_used() {
    let mut child = command("both");
    let url = "postgres://saga:hunter2@localhost/saga";
    child.env("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092").env("TEST_DATABASE_URL", url).stdin(Stdio::null());
    let (output, text) = said(child.env("DOCKER_HOST", "unix:///nowhere/docker.sock"));
    assert!(output.status.success() && text.contains(&format!("ready kafka:9092 {url}")), "{text}");
}

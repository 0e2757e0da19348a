//! The example service as a process, killed when its test fails.

use std::{
    io::Read,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use crate::common::{client, wait_for};

pub(crate) type Variable = (&'static str, &'static str);

pub(crate) const NO_BROKER: Variable = ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1");
pub(crate) const NO_DATABASE: Variable = ("DATABASE_URL", "postgres://nobody:hunter2@127.0.0.1:1/nothing");
pub(crate) const ANY: Variable = ("HTTP_ADDR", "127.0.0.1:0");
/// Within this time a process that was told to stop has ended, whatever it waits for.
pub(crate) const END: Duration = Duration::from_secs(10);
pub(crate) const MEMORY: Variable = ("DATABASE_URL", "sqlite::memory:");

/// The probe, with no other variables than these.
pub(crate) fn probe(variables: &[(&str, &str)]) -> Command {
    example("probe", variables)
}

/// An example that is built beside the tests, with no other variables than these.
pub(crate) fn example(name: &str, variables: &[(&str, &str)]) -> Command {
    let deps = std::env::current_exe().unwrap();
    let path: PathBuf = deps.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "build it first: cargo build -p saga-service --example {name}");
    let mut command = Command::new(path);
    command.env_clear().envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A probe that listens, and is killed when the test fails.
pub(crate) struct Probe {
    pub(crate) child: Option<Child>,
    pub(crate) addr: SocketAddr,
}

impl Probe {
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        Self::spawn(probe(variables))
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let addr = free_address();
        let child = command.env("HTTP_ADDR", addr.to_string()).spawn().unwrap();
        let probe = Self { child: Some(child), addr };
        wait_for(|| client::get(addr, "/livez").map(|a| a.status), |status| *status == Some(200));
        probe
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Its exit status, what it logged, and how long it took to end.
    pub(crate) fn end(mut self) -> (ExitStatus, String, Duration) {
        let started = Instant::now();
        let mut child = self.child.take().unwrap();
        let mut log = String::new();
        child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (child.wait().unwrap(), log, started.elapsed())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

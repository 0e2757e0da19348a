//! `saga demo`: the whole flow in one process, from orders of every kind to the invariants that must hold in the end.

mod dir;
mod ending;
mod facts;
mod fleet;
mod gauge;
pub(crate) mod http;
mod invariants;
mod journal;
mod log;
mod place;
mod print;
mod report;
mod screen;
mod story;
mod timeline;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use saga_core::graph::Choreography;
use saga_kafka::{KafkaError, PublisherError};
use saga_service::{ServiceError, config::ConfigError};

use self::{
    dir::DataDir,
    fleet::{Failures, Fleet, Member},
    http::HttpError,
    report::Report,
    screen::Screen,
    story::Story,
};
use saga_tools::text::{BOLD, DIM, Line, NAME};
use saga_tools::{
    output::{OutputError, print, print_json},
    signals::Signals,
};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) orders: usize,
    /// Per second.
    pub(crate) rate: f64,
    /// Stay up afterwards.
    pub(crate) keep: bool,
    pub(crate) json: bool,
}

/// Why the demo could not be carried through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("the demo needs a folder for its databases")]
    Folder(#[source] io::Error),
    #[error("the log cannot be written")]
    Log(#[source] io::Error),
    #[error("signals cannot be listened for")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the embedded broker: {0}")]
    Kafka(#[from] KafkaError),
    #[error("the {0} service: {1}")]
    Service(&'static str, #[source] ServiceError),
    #[error("the {0} service was not ready within {1:?}: {2}")]
    NotReady(&'static str, Duration, String),
    #[error("the {0} service is not running")]
    NotRunning(&'static str),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the order service answered without an order: {0}")]
    NoOrder(String),
    #[error(transparent)]
    Publish(#[from] PublisherError),
    #[error("the poison event was not published: {0}")]
    Poison(String),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Facts(#[from] facts::FactsError),
    #[error("a task of the demo failed")]
    Panicked(#[source] tokio::task::JoinError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// The command ended before it was done.
enum Ended {
    By(DemoError),
    /// The exit code of a program that this signal ended.
    Signal(u8),
}

impl<E: Into<DemoError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::By(error.into())
    }
}

/// Runs the demo of a flow that fits together.
pub(crate) async fn run(flow: &Choreography, settings: Settings) -> Result<ExitCode, DemoError> {
    let dir = DataDir::create().map_err(DemoError::Folder)?;
    let _log = log::start(&dir.log()).map_err(DemoError::Log)?;
    let mut signals = Signals::listen().map_err(DemoError::Signals)?;
    let mut screen = Screen::new(settings.json, log::is_wanted());
    let (mut fleet, mut failures) = Fleet::new(flow, dir, settings.keep)?;
    let shown = tokio::select! {
        shown = show(flow, settings, &mut fleet, &mut screen) => shown,
        Some(error) = failures.recv() => Err(Ended::By(error)),
        code = signals.received() => Err(Ended::Signal(code)),
    };
    screen.clear();
    let result = match shown {
        Ok(report) if settings.keep => stay(&fleet, &mut signals, &mut failures, settings).await.map(|()| report.holds),
        Ok(report) => Ok(report.holds),
        Err(Ended::Signal(code)) => return Ok(stop(fleet, signals, code).await),
        Err(Ended::By(error)) => Err(error),
    };
    let holds = result.as_ref().is_ok_and(|holds| *holds);
    // Whoever reads the results has read enough: no failure.
    let unheard = result.as_ref().is_err_and(is_broken_pipe);
    if !holds && !unheard {
        let log = fleet.dir().log();
        // Nobody may be left to tell.
        let _ = log::troubles(&log).iter().try_for_each(|line| writeln!(io::stderr(), "{line}"));
    }
    if settings.keep || !(holds || unheard) {
        let told = writeln!(io::stderr(), "databases and log: {}", fleet.dir().path().display());
        // What nobody knows of, nobody removes.
        if settings.keep || told.is_ok() {
            fleet.dir().keep();
        }
    }
    let code = stop(fleet, signals, u8::from(!holds)).await;
    result.map(|_| code)
}

/// Everything up to the report, and the report.
async fn show(
    flow: &Choreography,
    settings: Settings,
    fleet: &mut Fleet,
    screen: &mut Screen,
) -> Result<Report, Ended> {
    let mut report = Story::new(flow, settings, fleet, screen).tell().await?;
    screen.clear();
    if settings.keep || !report.holds {
        report.runs.data = Some(fleet.dir().path().display().to_string());
    }
    if settings.json {
        print_json(&report)?;
    } else {
        let lines = print::lines(&report);
        print(&lines.iter().map(|line| line.render(screen.colour(), None) + "\n").collect::<String>())?;
    }
    Ok(report)
}

/// Keeps everything running until somebody has seen enough.
async fn stay(
    fleet: &Fleet,
    signals: &mut Signals,
    failures: &mut Failures,
    settings: Settings,
) -> Result<(), DemoError> {
    let colour = Screen::new(settings.json, false).colour();
    let mut lines = vec![Line::new(), Line::new().add(BOLD, "Still running").add(DIM, "  until ctrl-c")];
    for member in Member::ALL {
        let url = format!("http://{}", fleet.address(member)?);
        lines.push(Line::new().plain("  ").left(NAME, member.name(), 10).plain(url));
    }
    lines.push(Line::new().plain("  ").left(NAME, "kafka", 10).plain(fleet.bootstrap_servers()));
    let text: String = lines.iter().map(|line| line.render(colour, None) + "\n").collect();
    if settings.json {
        // Whoever does not see it may still see the report.
        let _ = io::stderr().write_all(text.as_bytes());
    } else {
        print(&text)?;
    }
    tokio::select! {
        _ = signals.received() => Ok(()),
        Some(error) = failures.recv() => Err(error),
    }
}

fn is_broken_pipe(error: &DemoError) -> bool {
    let DemoError::Output(error) = error else { return false };
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Stops in good order; whoever does not want to wait for that sends another signal.
async fn stop(mut fleet: Fleet, mut signals: Signals, code: u8) -> ExitCode {
    let code = tokio::select! {
        () = fleet.stop_all() => code,
        code = signals.received() => code,
    };
    ExitCode::from(code)
}

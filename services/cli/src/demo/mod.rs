//! `saga demo`: runs the whole flow in one process and verifies the result.

mod customers;
mod data_dir;
mod database_state;
mod demo_run;
pub(crate) mod http_client;
mod invariants;
mod print;
mod process_log;
mod progress;
mod progress_display;
mod report;
mod scenario;
mod services;
mod timeline;
mod topic_log;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use saga_core::graph::Choreography;
use saga_kafka::{KafkaError, PublisherError};
use saga_service::{ServiceError, config::ConfigError};

use self::{
    data_dir::DataDir,
    demo_run::DemoRun,
    http_client::HttpError,
    progress_display::ProgressDisplay,
    report::Report,
    services::{Failures, ServiceKind, Services},
};
use saga_tools::text::{BOLD, DIM, Line, NAME};
use saga_tools::{
    output::{OutputError, print, print_json},
    signals::Signals,
};

/// The command's settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) orders: usize,
    /// Orders per second.
    pub(crate) rate: f64,
    /// Whether to keep running afterwards.
    pub(crate) keep: bool,
    pub(crate) json: bool,
}

/// Why the demo could not run to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("the demo needs a folder for its databases")]
    Folder(#[source] io::Error),
    #[error("the log cannot be written")]
    Log(#[source] io::Error),
    #[error("signals cannot be received")]
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
    Database(#[from] database_state::DatabaseStateError),
    #[error("a task of the demo failed")]
    Panicked(#[source] tokio::task::JoinError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// The reason for an early end.
enum Ended {
    By(DemoError),
    /// A signal, with its exit code.
    Signal(u8),
}

impl<E: Into<DemoError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::By(error.into())
    }
}

/// Runs the demo of a flow without findings.
pub(crate) async fn run(flow: &Choreography, settings: Settings) -> Result<ExitCode, DemoError> {
    let dir = DataDir::create().map_err(DemoError::Folder)?;
    let _log = process_log::start(&dir.log()).map_err(DemoError::Log)?;
    let mut signals = Signals::listen().map_err(DemoError::Signals)?;
    let mut display = ProgressDisplay::new(settings.json, process_log::is_on_standard_error());
    let (mut services, mut failures) = Services::new(flow, dir, settings.keep)?;
    let shown = tokio::select! {
        shown = show(flow, settings, &mut services, &mut display) => shown,
        Some(error) = failures.recv() => Err(Ended::By(error)),
        code = signals.received() => Err(Ended::Signal(code)),
    };
    display.clear();
    let result = match shown {
        Ok(report) if settings.keep => {
            stay(&services, &mut signals, &mut failures, settings).await.map(|()| report.holds)
        }
        Ok(report) => Ok(report.holds),
        Err(Ended::Signal(code)) => return Ok(stop(services, signals, code).await),
        Err(Ended::By(error)) => Err(error),
    };
    let holds = result.as_ref().is_ok_and(|holds| *holds);
    // The reader has closed the pipe after reading enough, which is no failure.
    let unheard = result.as_ref().is_err_and(is_broken_pipe);
    if !holds && !unheard {
        let log = services.dir().log();
        // Standard error may be closed.
        let _ = process_log::last_problems(&log).iter().try_for_each(|line| writeln!(io::stderr(), "{line}"));
    }
    if settings.keep || !(holds || unheard) {
        let announced = writeln!(io::stderr(), "databases and log: {}", services.dir().path().display());
        // Without the message the folder to remove would be unknown.
        if settings.keep || announced.is_ok() {
            services.dir().keep();
        }
    }
    let code = stop(services, signals, u8::from(!holds)).await;
    result.map(|_| code)
}

/// Runs the demo and prints the report.
async fn show(
    flow: &Choreography,
    settings: Settings,
    services: &mut Services,
    display: &mut ProgressDisplay,
) -> Result<Report, Ended> {
    let mut report = DemoRun::new(flow, settings, services, display).execute().await?;
    display.clear();
    if settings.keep || !report.holds {
        report.runs.data = Some(services.dir().path().display().to_string());
    }
    if settings.json {
        print_json(&report)?;
    } else {
        let lines = print::lines(&report);
        print(&lines.iter().map(|line| line.render(display.colour(), None) + "\n").collect::<String>())?;
    }
    Ok(report)
}

/// Keeps everything running until a signal arrives.
async fn stay(
    services: &Services,
    signals: &mut Signals,
    failures: &mut Failures,
    settings: Settings,
) -> Result<(), DemoError> {
    let colour = ProgressDisplay::new(settings.json, false).colour();
    let mut lines = vec![Line::new(), Line::new().add(BOLD, "Still running").add(DIM, "  until ctrl-c")];
    for service in ServiceKind::ALL {
        let url = format!("http://{}", services.address(service)?);
        lines.push(Line::new().plain("  ").left(NAME, service.name(), 10).plain(url));
    }
    lines.push(Line::new().plain("  ").left(NAME, "kafka", 10).plain(services.bootstrap_servers()));
    let text: String = lines.iter().map(|line| line.render(colour, None) + "\n").collect();
    if settings.json {
        // The report matters more than this text.
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

/// Shuts down gracefully; another signal ends it at once.
async fn stop(mut services: Services, mut signals: Signals, code: u8) -> ExitCode {
    let code = tokio::select! {
        () = services.stop_all() => code,
        code = signals.received() => code,
    };
    ExitCode::from(code)
}

//! The process around a service: its arguments, its signals, its exit code.

use std::{
    io::{self, ErrorKind, Write},
    process::{self, ExitCode},
    thread,
    time::Duration,
};

use crate::{
    config::{self, Config, Parsed, Stop},
    error::ServiceError,
    healthcheck,
    run::{declaration, run},
    service::Service,
    telemetry::{self, Telemetry},
};

/// A process that is told to stop has ended after this long, and its grace, whatever it waits for. What is committed is
/// safe, and what is not is redone.
const LAST_MOMENT: Duration = Duration::from_millis(9_500);

/// The `main` of a service's binary: settings from the command line and the environment, logging to standard error,
/// SIGTERM and SIGINT end it in good order, a second one at once.
///
/// Exit codes: 0 when it was told to stop, 1 when it cannot go on, 2 when a setting is wrong.
pub fn main<S: Service>() -> ExitCode {
    match config::parse::<S>(std::env::args_os(), std::env::vars_os()) {
        Ok(parsed) if parsed.healthcheck => check::<S>(&parsed.config),
        Ok(parsed) if parsed.describe => describe::<S>(parsed.config),
        Ok(parsed) => start::<S>(parsed),
        Err(Stop::Asked(text)) => print::<S>(&text),
        Err(Stop::Wrong(error)) => {
            say::<S>(&error);
            ExitCode::from(2)
        }
    }
}

/// Writes what was asked for.
fn print<S: Service>(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // A reader that has left has read enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            say::<S>(&ServiceError::System("cannot write to standard output", error));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn describe<S: Service>(config: Config<S::Args>) -> ExitCode {
    match declaration::<S>(config) {
        Ok(declaration) => print::<S>(&format!("{:#}\n", declaration.to_json())),
        Err(error) => {
            say::<S>(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn check<S: Service>(config: &Config<S::Args>) -> ExitCode {
    let Err(error) = healthcheck::ask(&config.http_addr) else { return ExitCode::SUCCESS };
    say::<S>(&error);
    ExitCode::FAILURE
}

fn start<S: Service>(Parsed { config, log, .. }: Parsed<S::Args>) -> ExitCode {
    let telemetry = match telemetry::init(&log) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            say::<S>(&ServiceError::System("no thread for the log", error));
            return ExitCode::FAILURE;
        }
    };
    let result = execute::<S>(config, &telemetry);
    let code = result.as_ref().err().map_or(0, ServiceError::exit_code);
    if let Err(error) = result {
        // Wrong settings are told the same way wherever they are found out.
        if code == 1 && tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!(service = S::NAME, %error, "the service cannot go on");
        } else {
            telemetry.say(&line::<S>(&error));
        }
    }
    telemetry.flush();
    ExitCode::from(code)
}

fn execute<S: Service>(config: Config<S::Args>, telemetry: &Telemetry) -> Result<(), ServiceError> {
    let no_runtime = |error| ServiceError::System("no async runtime", error);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(no_runtime)?;
    let last_moment = config.shutdown_grace + LAST_MOMENT;
    let result = runtime.block_on(async {
        let mut signals = Signals::new().map_err(|error| ServiceError::System("no signal handler", error))?;
        let stop = async move {
            let signal = signals.next().await;
            tracing::info!(signal = signal.name(), "told to stop");
            // These end with the process.
            let (last, second) = (telemetry.clone(), telemetry.clone());
            thread::spawn(move || end_after(last_moment, &last));
            tokio::spawn(async move {
                let code = signals.next().await.exit_code();
                second.flush();
                process::exit(code)
            });
        };
        run::<S>(config, stop).await
    });
    // A blocking call that hangs, such as a name server's, must not hold the process.
    runtime.shutdown_background();
    result
}

fn say<S: Service>(error: &dyn std::error::Error) {
    // Nothing is left to be done when standard error is closed.
    let _ = writeln!(io::stderr(), "{}", line::<S>(error));
}

fn line<S: Service>(error: &dyn std::error::Error) -> String {
    format!("{}-service: {error}", S::NAME)
}

/// Says nothing of its own: what did not end in time has said so.
fn end_after(last_moment: Duration, telemetry: &Telemetry) {
    thread::sleep(last_moment);
    telemetry.flush();
    process::exit(0);
}

#[derive(Clone, Copy)]
enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// As shells report it.
    fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Signal::Interrupt,
            Some(()) = self.terminate.recv() => Signal::Terminate,
            else => std::future::pending().await,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}

//! The process around a service: arguments, signals, exit code.

use std::{
    fmt::Debug,
    io::{self, ErrorKind, Write},
    process::{self, ExitCode},
    thread,
    time::Duration,
};

use clap::Args;

use crate::{
    config::{Config, HttpAddr, Parsed, Stop},
    error::ServiceError,
    healthcheck,
    service::Service,
    telemetry::{self, Telemetry},
};

/// A process that was told to stop ends after this time and its grace, whatever it waits for. Committed work is safe,
/// and the rest is redone.
const LAST_MOMENT: Duration = Duration::from_millis(9_500);

impl<A: Args + Clone + Debug + Send + Sync + 'static> Service<A> {
    /// The `main` of a service's binary. Settings come from the command line and the environment, logs go to standard
    /// error. SIGTERM and SIGINT stop it in good order, a second signal at once.
    ///
    /// Exit codes: 0 when it was told to stop, 1 when it cannot go on, 2 when a setting is wrong.
    pub fn run(self) -> ExitCode {
        let name = self.name;
        match self.parse(std::env::args_os(), std::env::vars_os()) {
            Ok(parsed) if parsed.healthcheck => check(name, &parsed.config.http_addr),
            Ok(parsed) if parsed.describe => describe(self, parsed.config),
            Ok(parsed) => start(self, parsed),
            Err(Stop::Asked(text)) => print(name, &text),
            Err(Stop::Wrong(error)) => {
                say(name, &error);
                ExitCode::from(2)
            }
        }
    }
}

/// Writes to standard output.
fn print(name: &str, text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // A reader that is gone has read enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            say(name, &ServiceError::System("cannot write to standard output", error));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn describe<A: Args + Clone + Debug + Send + Sync + 'static>(service: Service<A>, config: Config<A>) -> ExitCode {
    let name = service.name;
    match service.declaration(config) {
        Ok(declaration) => print(name, &format!("{:#}\n", declaration.to_json())),
        Err(error) => {
            say(name, &error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn check(name: &str, http_addr: &HttpAddr) -> ExitCode {
    let Err(error) = healthcheck::ask(http_addr) else { return ExitCode::SUCCESS };
    say(name, &error);
    ExitCode::FAILURE
}

fn start<A: Args + Clone + Debug + Send + Sync + 'static>(
    service: Service<A>,
    Parsed { config, log, .. }: Parsed<A>,
) -> ExitCode {
    let name = service.name;
    let telemetry = match telemetry::init(&log) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            say(name, &ServiceError::System("no thread for the log", error));
            return ExitCode::FAILURE;
        }
    };
    let result = execute(service, config, &telemetry);
    let code = result.as_ref().err().map_or(0, ServiceError::exit_code);
    if let Err(error) = result {
        // Wrong settings are reported the same way wherever they are found.
        if code == 1 && tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!(service = name, %error, "the service cannot go on");
        } else {
            telemetry.say(&line(name, &error));
        }
    }
    telemetry.flush();
    ExitCode::from(code)
}

fn execute<A: Args + Clone + Debug + Send + Sync + 'static>(
    service: Service<A>,
    config: Config<A>,
    telemetry: &Telemetry,
) -> Result<(), ServiceError> {
    let no_runtime = |error| ServiceError::System("no async runtime", error);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(no_runtime)?;
    let last_moment = config.shutdown_grace + LAST_MOMENT;
    let result = runtime.block_on(async {
        let mut signals = Signals::new().map_err(|error| ServiceError::System("no signal handler", error))?;
        let stop = async move {
            let signal = signals.next().await;
            tracing::info!(signal = signal.name(), "stopping on a signal");
            // These end with the process.
            let (last, second) = (telemetry.clone(), telemetry.clone());
            thread::spawn(move || end_after(last_moment, &last));
            tokio::spawn(async move {
                let code = signals.next().await.exit_code();
                second.flush();
                process::exit(code)
            });
        };
        service.run_until(config, stop).await
    });
    // A blocking call that hangs, such as name resolution, must not keep the process alive.
    runtime.shutdown_background();
    result
}

fn say(name: &str, error: &dyn std::error::Error) {
    // Standard error is closed: there is nowhere to write.
    let _ = writeln!(io::stderr(), "{}", line(name, error));
}

fn line(name: &str, error: &dyn std::error::Error) -> String {
    format!("{name}-service: {error}")
}

/// Ends the process. The task that did not end in time has logged it.
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

    /// The code that shells report.
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

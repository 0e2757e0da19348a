//! The signals that end a command: ctrl-c, and on Unix SIGTERM and SIGHUP.

use std::io;

/// Ctrl-c, and on Unix SIGTERM and SIGHUP.
pub struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    /// None when the process ignores SIGHUP.
    #[cfg(unix)]
    hangup: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    /// Starts listening. From then on the signals no longer end the process.
    ///
    /// # Errors
    /// When the operating system refuses.
    #[cfg(unix)]
    pub fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, hangup })
    }

    /// Starts listening.
    ///
    /// # Errors
    /// Never.
    #[cfg(not(unix))]
    pub fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for a signal. Returns the exit code that shells give it.
    pub async fn received(&mut self) -> u8 {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            Some(_) = async { self.hangup.as_mut()?.recv().await } => 129,
        }
        #[cfg(not(unix))]
        {
            // Without a handler, ctrl-c ends the process.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            130
        }
    }
}

/// Whether `nohup` has set SIGHUP to be ignored, which listening would reverse. Known on Linux only.
#[cfg(target_os = "linux")]
fn ignores_hangup() -> bool {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.sigign & 1 == 1)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn ignores_hangup() -> bool {
    false
}

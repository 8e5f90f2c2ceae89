//! Signals: those that stop, and those that must not.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits to be told to stop: SIGTERM is Kubernetes', SIGINT is Ctrl-C.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(super) async fn asked(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// SIGXFSZ, for which tokio has no name: 25 on every Linux but those on MIPS.
const FILE_TOO_LARGE: i32 = 25;

/// Catches, for as long as the runtime lives, what would end the process at once though nobody who sends it wants
/// that: each becomes a line of the log. Call it inside the runtime, before anything that takes long.
///
/// SIGPIPE needs nothing, since Rust's own start ignores it. SIGQUIT stays what it is, an end at once.
///
/// # Errors
/// The system refuses a handler.
pub(super) fn survive_others() -> io::Result<()> {
    // Sent to have the configuration read again, and when a terminal is closed.
    log_each(
        SignalKind::hangup(),
        "SIGHUP: the configuration is read at the start only; restart to change it",
    )?;
    // Sent to programs that open their log anew or tell their state then.
    log_each(SignalKind::user_defined1(), "SIGUSR1: nothing to do; SIGTERM stops the bridge")?;
    log_each(SignalKind::user_defined2(), "SIGUSR2: nothing to do; SIGTERM stops the bridge")?;
    log_each(SignalKind::alarm(), "SIGALRM: nothing to do; SIGTERM stops the bridge")?;
    // The write fails then, and its sink says so.
    let too_large = "SIGXFSZ: a file has reached the limit that the system sets (ulimit -f)";
    log_each(SignalKind::from_raw(FILE_TOO_LARGE), too_large)
}

fn log_each(kind: SignalKind, line: &'static str) -> io::Result<()> {
    let mut signal = signal(kind)?;
    tokio::spawn(async move {
        while signal.recv().await.is_some() {
            tracing::warn!("{line}");
        }
    });
    Ok(())
}

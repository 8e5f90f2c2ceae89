//! Handles signals: those that stop the bridge, and those that must not.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for a signal to stop: Kubernetes sends SIGTERM, Ctrl-C sends SIGINT.
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

/// Returns a stream of SIGHUPs, which ask to read the configuration again. A closed terminal sends one too. From this call
/// on, SIGHUP does not end the process.
///
/// # Errors
/// The system refuses a handler.
pub(super) fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// SIGXFSZ, for which tokio has no name. It is 25 on every Linux except on MIPS.
const FILE_TOO_LARGE: i32 = 25;

/// Catches the signals that would end the process although their senders do not want that, for as long as the
/// runtime lives. Each is logged. Call it inside the runtime, before any long work.
///
/// SIGPIPE needs no handler, because Rust's startup code ignores it. SIGQUIT keeps its default, which ends
/// the process at once.
///
/// # Errors
/// The system refuses a handler.
pub(super) fn survive_others() -> io::Result<()> {
    for (kind, line) in [
        // Sent to programs that then reopen their log or print their state.
        (SignalKind::user_defined1(), "SIGUSR1: nothing to do; SIGTERM stops the bridge"),
        (SignalKind::user_defined2(), "SIGUSR2: nothing to do; SIGTERM stops the bridge"),
        (SignalKind::alarm(), "SIGALRM: nothing to do; SIGTERM stops the bridge"),
        // The write then fails, and its sink reports that.
        (
            SignalKind::from_raw(FILE_TOO_LARGE),
            "SIGXFSZ: a file has reached the limit that the system sets (ulimit -f)",
        ),
    ] {
        let mut signal = signal(kind)?;
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                tracing::warn!("{line}");
            }
        });
    }
    Ok(())
}

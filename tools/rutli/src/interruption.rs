//! Ctrl-C, and the other polite ways of ending a program.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::report::Failure;

/// Waits for somebody to end the program. While there is one, such a signal does nothing by itself.
pub struct Interruption {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
}

impl Interruption {
    /// Listens for Ctrl-C and SIGTERM from now on. Not for SIGHUP: under `nohup` that would end the program.
    ///
    /// # Errors
    /// Exit code 1: the system does not let it.
    pub fn listen() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signals(SignalKind::interrupt())?,
            terminate: signals(SignalKind::terminate())?,
            hang_up: None,
        })
    }

    /// Listens for SIGHUP too, for what must not be left behind when a terminal is closed.
    ///
    /// # Errors
    /// As [`Self::listen`].
    pub fn or_hang_up(self) -> Result<Self, Failure> {
        Ok(Self { hang_up: Some(signals(SignalKind::hangup())?), ..self })
    }

    /// Its name, once it comes.
    pub async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            Some(()) = async { self.hang_up.as_mut()?.recv().await } => "SIGHUP",
        }
    }
}

fn signals(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| {
        Failure::failed(format!("cannot listen for signals: {error}"))
            .help("see how many files and processes this user may have (`ulimit -a`)")
    })
}

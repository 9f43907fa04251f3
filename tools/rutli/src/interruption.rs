//! Ctrl-C, and the other polite ways of ending a program.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::report::Failure;

/// Waits for somebody to end the program. While there is one, such a signal does nothing by itself.
pub struct Interruption {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Interruption {
    /// Listens from now on.
    ///
    /// # Errors
    /// Exit code 1: the system does not let it.
    pub fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::failed(format!("cannot listen for signals: {error}"))
                    .help("see how many files and processes this user may have (`ulimit -a`)")
            })
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Its name, once it comes.
    pub async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }
}

//! Ending without hurting anyone: serve on for a moment, take nothing new, let what runs run out, then end the rest.
//!
//! A stage never goes back. Who asked for the end is told of it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// How long a guard that was asked to drain serves on: endpoints need that long to forget it.
const LEAD: Duration = Duration::from_secs(5);
/// How long it may take to tell them of the end.
const TELLING: Duration = Duration::from_secs(1);
/// What the socket says when all is over.
const DONE: &[u8] = b"drained\n";

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Everything is served.
    Serving,
    /// A drain was asked for; everything is still served.
    Leading,
    /// Nothing new is taken.
    Draining,
    /// What still runs is ended.
    Forced,
    /// All is over.
    Finished,
}

/// Moves the stages on.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    stage: watch::Sender<Stage>,
    /// How many wait to be told of the end.
    asking: watch::Sender<usize>,
    /// A signal asked the process to end.
    signalled: watch::Sender<bool>,
}

/// One who waits to be told of the end; when it is dropped, it has been told.
#[derive(Debug)]
pub(crate) struct Asking(watch::Sender<usize>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

/// Sees the stages.
pub(crate) type DrainWatch = watch::Receiver<Stage>;

/// Waits until a stage has come.
pub(crate) async fn reached(watch: &mut DrainWatch, stage: Stage) {
    // The sender is gone only when the guard is: that is the last stage.
    let _ = watch.wait_for(|current| *current >= stage).await;
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self { stage: watch::Sender::new(Stage::Serving), asking: watch::Sender::new(0), signalled: watch::Sender::new(false) }
    }

    pub(crate) fn watch(&self) -> DrainWatch {
        self.stage.subscribe()
    }

    /// Goes on to a stage, unless it has passed already.
    pub(crate) fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let later = *stage < to;
            *stage = to.max(*stage);
            later
        });
    }

    /// A signal asks the process to end: it takes nothing new; and where that is so already, what runs is ended. Gives the stage.
    pub(crate) fn signal(&self) -> Stage {
        let so_far = *self.stage.borrow();
        self.advance(if so_far < Stage::Draining { Stage::Draining } else { Stage::Forced });
        self.signalled.send_replace(true);
        *self.stage.borrow()
    }

    /// Waits for a signal, unless one has come.
    pub(crate) async fn signalled(&self) {
        // The sender is right here, so there is no error.
        let _ = self.signalled.subscribe().wait_for(|signalled| *signalled).await;
    }

    /// One more is to be told of the end.
    pub(crate) fn ask(&self) -> Asking {
        self.asking.send_modify(|waiting| *waiting += 1);
        Asking(self.asking.clone())
    }

    /// Returns when nothing runs any more: at once if no drain has begun within `time`.
    pub(crate) async fn idle(&self, time: Duration) {
        let mut stages = self.watch();
        if tokio::time::timeout(time, reached(&mut stages, Stage::Leading)).await.is_ok() {
            reached(&mut stages, Stage::Finished).await;
        }
    }

    /// All is over: returns once those who asked for it have been told.
    pub(crate) async fn finished(&self) {
        self.advance(Stage::Finished);
        let mut asking = self.asking.subscribe();
        let _ = tokio::time::timeout(TELLING, asking.wait_for(|waiting| *waiting == 0)).await;
    }

    /// Takes orders to drain on a unix socket that only its owner may use.
    pub(crate) fn listen(&self, path: &Path) -> std::io::Result<()> {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, "another guard listens there"));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let drain = self.clone();
        let path = path.to_owned();
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        tokio::spawn(drain.clone().answer(stream, drain.ask()));
                    }
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "the drain socket has a problem");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(())
    }

    async fn answer(self, mut stream: UnixStream, _asking: Asking) {
        tracing::info!("a drain was asked for");
        let mut stages = self.watch();
        self.advance(Stage::Leading);
        // Another may have asked before, or a signal: then the lead is that one's.
        let _ = tokio::time::timeout(LEAD, reached(&mut stages, Stage::Draining)).await;
        self.advance(Stage::Draining);
        reached(&mut stages, Stage::Finished).await;
        let _ = stream.write_all(DONE).await;
    }
}

/// Asks the guard behind a socket to drain, and waits until it has.
pub(crate) async fn ask(path: &Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(path).await?;
    let mut said = Vec::new();
    (&mut stream).take(64).read_to_end(&mut said).await?;
    if said == DONE {
        return Ok(());
    }
    Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the guard ended before it had drained"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_whether_the_guard_is_idle_waits_for_a_drain_to_begin_and_then_for_its_end() {
        let wait = Duration::from_secs(2);
        let begun = tokio::time::Instant::now();
        Drain::new().idle(wait).await;
        assert_eq!(begun.elapsed(), wait);

        let drain = Drain::new();
        let asking = drain.clone();
        let idle = tokio::spawn(async move { asking.idle(wait).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        drain.advance(Stage::Leading);
        tokio::time::sleep(Duration::from_hours(1)).await;
        drain.advance(Stage::Forced);
        assert!(!idle.is_finished());
        drain.advance(Stage::Finished);
        idle.await.unwrap();
    }

    #[test]
    fn the_first_signal_drains_and_one_that_finds_a_drain_ends_what_runs() {
        let drain = Drain::new();
        assert_eq!((drain.signal(), drain.signal()), (Stage::Draining, Stage::Forced));
        let drain = Drain::new();
        drain.advance(Stage::Draining);
        assert_eq!(drain.signal(), Stage::Forced);
        drain.advance(Stage::Finished);
        assert_eq!(drain.signal(), Stage::Finished);
    }
}

//! Ending without hurting anyone: serve on for a moment, take nothing new, let what runs run out, then end the rest.
//!
//! A stage never goes back.

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
    /// How many wait at the socket to be told of the end.
    asking: watch::Sender<usize>,
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
        Self { stage: watch::Sender::new(Stage::Serving), asking: watch::Sender::new(0) }
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
                        drain.asking.send_modify(|waiting| *waiting += 1);
                        tokio::spawn(drain.clone().answer(stream));
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

    async fn answer(self, mut stream: UnixStream) {
        tracing::info!("a drain was asked for");
        let mut stages = self.watch();
        self.advance(Stage::Leading);
        // Another may have asked before, or a signal: then the lead is that one's.
        let _ = tokio::time::timeout(LEAD, reached(&mut stages, Stage::Draining)).await;
        self.advance(Stage::Draining);
        reached(&mut stages, Stage::Finished).await;
        let _ = stream.write_all(DONE).await;
        self.asking.send_modify(|waiting| *waiting -= 1);
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

//! Standard output, on a thread of its own: whoever does not read it holds up nothing but what is shown.

use std::{
    io::{self, ErrorKind},
    thread,
    time::Duration,
};

use tokio::sync::{
    mpsc::{Permit, Receiver, Sender, channel},
    oneshot,
};

use super::screen::Screen;
use crate::{
    output::{OutputError, print, say},
    text::Line,
};

/// What is being written may be finished in the end, and the cursor come back.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is written at once.
pub(super) struct Page {
    /// For standard error.
    pub(super) remarks: Vec<String>,
    pub(super) shown: Shown,
}

pub(super) enum Shown {
    /// Drawn over what was there before.
    Screen(Vec<Line>),
    Line(String),
}

/// Writes pages, one after the other.
pub(super) struct Out {
    pages: Sender<Page>,
    /// None once it is known.
    written: Option<oneshot::Receiver<Result<(), OutputError>>>,
}

impl Out {
    pub(super) fn start(screen: Option<Screen>) -> io::Result<Self> {
        // One that is written, and one that waits.
        let (pages, receiver) = channel(1);
        let (tell, written) = oneshot::channel();
        // Never joined: it may be in the middle of a write for ever.
        thread::Builder::new().name("out".into()).spawn(move || {
            // Nobody may be left to tell.
            let _ = tell.send(write(receiver, screen));
        })?;
        Ok(Self { pages, written: Some(written) })
    }

    /// Room for a page; none while nobody reads.
    pub(super) fn room(&self) -> Option<Permit<'_, Page>> {
        self.pages.try_reserve().ok()
    }

    /// Waits until nothing can be written any more.
    pub(super) async fn failed(&mut self) -> OutputError {
        let ended = match &mut self.written {
            Some(written) => written.await,
            None => std::future::pending().await,
        };
        self.written = None;
        match ended {
            Ok(Err(error)) => error,
            // It does not end by itself.
            Ok(Ok(())) | Err(_) => io::Error::from(ErrorKind::Other).into(),
        }
    }

    /// Finishes what is being written, unless nobody reads it.
    pub(super) async fn close(self) {
        let Self { pages, written } = self;
        drop(pages);
        if let Some(written) = written {
            // What cannot be written now was not waited for.
            let _ = tokio::time::timeout(PATIENCE, written).await;
        }
    }
}

fn write(mut pages: Receiver<Page>, mut screen: Option<Screen>) -> Result<(), OutputError> {
    while let Some(Page { remarks, shown }) = pages.blocking_recv() {
        for remark in remarks {
            say(&remark);
        }
        match (shown, &mut screen) {
            (Shown::Screen(lines), Some(screen)) => screen.draw(&lines)?,
            // Nothing can be redrawn there.
            (Shown::Screen(_), None) => {}
            (Shown::Line(line), _) => print(&(line + "\n"))?,
        }
    }
    Ok(())
}

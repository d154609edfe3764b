//! Progress lines on standard error, only when that is a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Says how far a step of known length has come, by rewriting one line.
#[derive(Debug)]
pub(crate) struct Progress {
    title: &'static str,
    total: usize,
    done: AtomicUsize,
    visible: bool,
}

impl Progress {
    pub(crate) fn new(title: &'static str, total: usize) -> Self {
        let visible = std::io::stderr().is_terminal();
        let progress = Self { title, total, done: AtomicUsize::new(0), visible };
        progress.show(0, "");
        progress
    }

    /// One more piece, `what`, is done.
    pub(crate) fn step(&self, what: &str) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.show(done, what);
    }

    /// Say what is under way without counting it.
    pub(crate) fn at(&self, what: &str) {
        self.show(self.done.load(Ordering::Relaxed), what);
    }

    /// Remove the line.
    pub(crate) fn finish(&self) {
        if self.visible {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn show(&self, done: usize, what: &str) {
        if self.visible {
            // A terminal that went away must not end the run.
            let _ =
                write!(std::io::stderr(), "\r\x1b[K{} {done}/{} {what}", self.title, self.total);
        }
    }
}

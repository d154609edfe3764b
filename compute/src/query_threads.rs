//! The threads that the work of queries runs on; apart from those of connections, so that a busy query
//! never delays a cancel or a commit.
//!
//! There are three sets, each with a thread for each slice, by how long a query is expected to take.
//! A set yields to those of shorter queries: its threads are niced, so that where both want a core the
//! kernel gives most of it to the shorter query, and all of it to the longer one otherwise. So a short
//! query does not stand in line behind every step of long ones, whichever queue it came by. Three,
//! because what is long is relative: beside lookups of some milliseconds a join of half a second is.
//!
//! Within a set priorities count: see [`crate::cpu_share`].

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::cpu_share;

/// How much the threads of short queries yield to those of quick ones: a ninth of their weight.
const SHORT_NICENESS: i32 = 10;
/// How much the threads of long queries yield: a third of the weight of those of short ones.
const LONG_NICENESS: i32 = 15;
/// How long work is expected to take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pace {
    /// Nobody notices that there was anything to wait for.
    #[default]
    Quick,
    /// Seconds at most.
    Short,
    /// More, or nobody knows.
    Long,
}

impl Pace {
    /// All of them, each before those that yield to it.
    const ALL: [Self; 3] = [Self::Quick, Self::Short, Self::Long];

    /// As a number between processes: its place in [`Self::ALL`].
    pub(crate) fn number(self) -> u32 {
        self as u32
    }

    /// The pace with this number, or the longest.
    pub(crate) fn from_number(number: u32) -> Self {
        let known = Self::ALL.into_iter().find(|pace| pace.number() == number);
        known.unwrap_or(Self::Long)
    }

    fn niceness(self) -> i32 {
        match self {
            Self::Quick => 0,
            Self::Short => SHORT_NICENESS,
            Self::Long => LONG_NICENESS,
        }
    }

    fn thread_name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Short => "short",
            Self::Long => "query",
        }
    }
}

/// All sets. Always there until the value goes.
#[derive(Debug)]
pub struct QueryThreads {
    /// In the order of [`Pace::ALL`].
    sets: Vec<Runtime>,
}

impl QueryThreads {
    /// Starts so many threads of each set.
    ///
    /// # Errors
    /// If the operating system gives none.
    pub fn start(count: usize) -> io::Result<Self> {
        cpu_share::enable();
        let runtime = |pace: Pace| {
            Builder::new_multi_thread()
                .worker_threads(count)
                .thread_name(pace.thread_name())
                .on_thread_start(move || yield_to_others(pace.niceness()))
                .enable_all()
                .build()
        };
        Ok(Self { sets: Pace::ALL.into_iter().map(runtime).collect::<io::Result<_>>()? })
    }

    /// Where work of that pace runs.
    pub fn handle(&self, pace: Pace) -> Handle {
        self.sets[pace as usize].handle().clone()
    }
}

/// Sets the niceness of the calling thread.
fn yield_to_others(niceness: i32) {
    if niceness == 0 {
        return;
    }
    // Without a process it is the calling thread that is meant.
    if let Err(error) = rustix::process::setpriority_process(None, niceness) {
        tracing::warn!(%error, "longer queries do not yield to shorter ones");
    }
}

impl Drop for QueryThreads {
    fn drop(&mut self) {
        // The last owner may be an async task, where a runtime must not be waited for.
        for runtime in self.sets.drain(..) {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::runtime::JoinSet;

    use super::*;

    #[test]
    fn long_queries_yield() {
        let threads = QueryThreads::start(1).unwrap();
        let niceness = |pace| {
            let (sender, receiver) = std::sync::mpsc::channel();
            let mut tasks = JoinSet::new();
            tasks.spawn_on(
                async move {
                    let niceness = rustix::process::getpriority_process(None);
                    sender.send(niceness.unwrap()).unwrap();
                },
                &threads.handle(pace),
            );
            receiver.recv().unwrap()
        };
        let own = rustix::process::getpriority_process(None).unwrap();
        assert_eq!(niceness(Pace::Quick), own);
        assert_eq!(niceness(Pace::Short), own.max(SHORT_NICENESS));
        assert_eq!(niceness(Pace::Long), own.max(LONG_NICENESS));
    }
}

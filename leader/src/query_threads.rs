//! The threads that query work runs on; apart from the connections', so that a busy query never
//! delays a cancel.
//!
//! There are three sets, each with a thread for each slice, by how long a query is expected to take.
//! A set yields to those of shorter queries: its threads are niced, so that where both want a core the
//! kernel gives most of it to the shorter query, and all of it to the longer one otherwise. So a short
//! query does not stand in line behind every step of long ones, whichever queue it came by. Three,
//! because what is long is relative: beside lookups of some milliseconds a join of half a second is.

use tokio::runtime::{Builder, Handle, Runtime};
use wlm::{Grant, Priority};

use crate::error::{Error, Result};

/// How much the threads of short queries yield to those of quick ones: a ninth of their weight.
const SHORT_NICENESS: i32 = 10;
/// How much the threads of long queries yield: a third of the weight of those of short ones.
const LONG_NICENESS: i32 = 15;
/// Queries that stay under this time are quick.
const QUICK_MS: u128 = 100;
/// Queries that stay under this time are short.
const SHORT_MS: u128 = 2_000;

/// How long work is expected to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Nobody notices that there was anything to wait for.
    Quick,
    /// Seconds at most.
    Short,
    /// More, or nobody knows.
    Long,
}

impl Pace {
    /// All of them, each before those that yield to it.
    const ALL: [Self; 3] = [Self::Quick, Self::Short, Self::Long];

    /// The pace of a query that workload management has let in. Those of the superuser queue and of
    /// the two highest priorities yield to nobody.
    pub fn of(grant: &Grant) -> Self {
        let is_preferred = grant.priority >= Priority::Highest
            || grant.cpu_share >= Priority::Critical.cpu_share();
        match grant.expected_time.as_millis() {
            _ if is_preferred => Self::Quick,
            ..QUICK_MS => Self::Quick,
            QUICK_MS..SHORT_MS => Self::Short,
            _ => Self::Long,
        }
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
    pub fn start(count: usize) -> Result<Self> {
        let failed = |source| Error::Io { action: "start the query threads".into(), source };
        let runtime = |pace: Pace| {
            Builder::new_multi_thread()
                .worker_threads(count)
                .thread_name(pace.thread_name())
                .on_thread_start(move || yield_to_others(pace.niceness()))
                .enable_all()
                .build()
                .map_err(failed)
        };
        Ok(Self { sets: Pace::ALL.into_iter().map(runtime).collect::<Result<_>>()? })
    }

    /// Where work of that pace runs.
    pub fn handle(&self, pace: Pace) -> Handle {
        self.sets[pace as usize].handle().clone()
    }

    /// Whether any work is running or waiting to run.
    pub fn are_busy(&self) -> bool {
        self.sets.iter().any(|set| set.handle().metrics().num_alive_tasks() > 0)
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

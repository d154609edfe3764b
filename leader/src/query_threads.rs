//! The threads that query work runs on; apart from the connections', so that a busy query never
//! delays a cancel.
//!
//! There are two sets, each with a thread for each slice. Queries that are expected to be short have
//! one of their own, and the other yields to it: its threads are niced, so that where both want a
//! core the kernel gives most of it to the short query, and all of it to the long one otherwise. So a
//! short query does not stand in line behind every step of long ones, whichever queue it came by.

use tokio::runtime::{Builder, Handle, Runtime};
use wlm::{Grant, Priority};

use crate::error::{Error, Result};

/// How much the threads of long queries yield: a third of the weight of a thread at 0.
const LONG_NICENESS: i32 = 5;
/// Queries that stay under this time are short.
const SHORT_MS: u128 = 2_000;

/// How long work is expected to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Seconds at most.
    Short,
    /// More, or nobody knows.
    Long,
}

impl Pace {
    /// The pace of a query that workload management has let in. Those of the superuser queue and of
    /// the short query queue count as short, and so do those of the two highest priorities.
    pub fn of(grant: &Grant) -> Self {
        let is_preferred = grant.cpu_share >= Priority::Highest.cpu_share();
        if is_preferred || grant.expected_time.as_millis() < SHORT_MS {
            Self::Short
        } else {
            Self::Long
        }
    }
}

/// Both sets. Always there until the value goes.
#[derive(Debug)]
pub struct QueryThreads {
    short: Option<Runtime>,
    long: Option<Runtime>,
}

impl QueryThreads {
    /// Starts so many threads of each set.
    ///
    /// # Errors
    /// If the operating system gives none.
    pub fn start(count: usize) -> Result<Self> {
        let failed = |source| Error::Io { action: "start the query threads".into(), source };
        let runtime = |name: &str, niceness: i32| {
            Builder::new_multi_thread()
                .worker_threads(count)
                .thread_name(name)
                .on_thread_start(move || yield_to_others(niceness))
                .enable_all()
                .build()
                .map_err(failed)
        };
        Ok(Self { short: Some(runtime("short", 0)?), long: Some(runtime("query", LONG_NICENESS)?) })
    }

    /// Where work of that pace runs.
    pub fn handle(&self, pace: Pace) -> Handle {
        let runtime = match pace {
            Pace::Short => &self.short,
            Pace::Long => &self.long,
        };
        runtime.as_ref().expect("the threads live as long as their owner").handle().clone()
    }

    /// Whether any work is running or waiting to run.
    pub fn are_busy(&self) -> bool {
        [Pace::Short, Pace::Long]
            .into_iter()
            .any(|pace| self.handle(pace).metrics().num_alive_tasks() > 0)
    }
}

/// Sets the niceness of the calling thread.
fn yield_to_others(niceness: i32) {
    if niceness == 0 {
        return;
    }
    // Without a process it is the calling thread that is meant.
    if let Err(error) = rustix::process::setpriority_process(None, niceness) {
        tracing::warn!(%error, "long queries do not yield to short ones");
    }
}

impl Drop for QueryThreads {
    fn drop(&mut self) {
        // The last owner may be an async task, where a runtime must not be waited for.
        for runtime in [self.short.take(), self.long.take()].into_iter().flatten() {
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
        assert_eq!(niceness(Pace::Short), own);
        assert_eq!(niceness(Pace::Long), own.max(LONG_NICENESS));
    }
}

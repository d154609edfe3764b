//! Gives a node what it lacks: asks it what it has, now and then and whenever that may have changed,
//! and has it copy from other nodes what is missing.
//!
//! Runs beside queries and writes. What is written meanwhile comes to the node by the write itself.
//! What is dropped meanwhile is removed once nothing here holds it any more, and so after it was
//! copied.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::common::{DataFusionError, Result as QueryResult};
use storage::ids::SegmentId;
use url::Url;

use super::copies::{Copies, CopyJob, Known, NextBatch};
use super::node_set::Member;
use crate::error::code;

/// How often a node is asked what it has though nothing has happened to it.
const INTERVAL: Duration = Duration::from_secs(30);
/// Before another try when something went wrong or nobody has what is missing.
const PAUSE: Duration = Duration::from_millis(500);
/// Before files are tried again that could not be copied, or of which nobody has a sound copy.
const PAUSE_AFTER_DAMAGE: Duration = Duration::from_secs(10);

/// Owns the copies that one node gets.
pub(super) struct Rebuild {
    pub(super) member: Arc<Member>,
    pub(super) copies: Arc<Copies>,
    pub(super) urls: Vec<Url>,
    pub(super) known: Known,
}

/// How far it came.
enum Progress {
    /// The node has everything, or is not there.
    Done,
    /// It has to be asked again.
    Again,
}

impl Rebuild {
    pub(super) async fn run(self) {
        let mut told = 0;
        loop {
            // Woken or not, it is time.
            let _woken = tokio::time::timeout(INTERVAL, self.member.audit.notified()).await;
            while let Progress::Again = self.make_whole(&mut told).await {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Asks the node what it has and has it copy what it lacks. `told` is how much it lacked when the
    /// log was told last.
    async fn make_whole(&self, told: &mut usize) -> Progress {
        let node = self.member.number;
        let Some(generation) = self.copies.begin_audit(node) else { return Progress::Done };
        let files = match self.member.client.inventory().await {
            Ok((files, integrity)) => {
                self.member.learn_integrity(integrity);
                files
            }
            Err(error) => {
                tracing::info!(node, %error, "a compute node does not say what it has");
                return self.again_if_open();
            }
        };
        let Some(missing) = self.copies.end_audit(node, generation, &files, &self.known) else {
            return self.again_if_open();
        };
        self.member.audits.send_modify(|count| *count += 1);
        if missing != *told {
            tracing::info!(node, missing, "files that a compute node lacks");
            *told = missing;
        }
        if missing == 0 {
            return Progress::Done;
        }
        let begun = Instant::now();
        let progress = self.copy_all().await;
        if let Progress::Done = progress {
            let milliseconds = begun.elapsed().as_millis();
            tracing::info!(node, milliseconds, "copied what a compute node lacked");
            *told = 0;
        }
        progress
    }

    async fn copy_all(&self) -> Progress {
        let node = self.member.number;
        let mut failed = HashSet::new();
        loop {
            match self.copies.next_batch(node, &failed) {
                NextBatch::Nothing => return Progress::Done,
                // Another node may come back, or what is missing not be wanted any more.
                NextBatch::NoSource => {
                    if !failed.is_empty() || self.copies.lacks_only_damaged(node) {
                        // Earlier if something has happened to the node.
                        let audit = self.member.audit.notified();
                        let _woken = tokio::time::timeout(PAUSE_AFTER_DAMAGE, audit).await;
                    }
                    return self.again_if_open();
                }
                NextBatch::Job(job) => {
                    if let Err(error) = self.copy(&job, &mut failed).await {
                        let error = error.strip_backtrace();
                        tracing::info!(node, from = job.from, error, "files were not copied");
                        return self.again_if_open();
                    }
                }
            }
        }
    }

    /// Copies a batch. If one of its files cannot be copied, the others are.
    ///
    /// # Errors
    /// Fails if one of the nodes is gone.
    async fn copy(&self, job: &CopyJob, failed: &mut HashSet<SegmentId>) -> QueryResult<()> {
        let (client, source) = (&self.member.client, &self.urls[job.from]);
        match client.copy_files(source, &job.items()).await {
            Ok(()) => {
                self.copies.copied(job);
                return Ok(());
            }
            Err(error) if is_gone(&error) => return Err(error),
            Err(_) => {}
        }
        for piece in &job.pieces {
            let one = CopyJob { pieces: vec![piece.clone()], ..*job };
            match client.copy_files(source, &one.items()).await {
                Ok(()) => self.copies.copied(&one),
                Err(error) if is_gone(&error) => return Err(error),
                Err(error) => {
                    let (file, error) = (piece.file.file(), error.strip_backtrace());
                    tracing::warn!(
                        node = job.to,
                        from = job.from,
                        ?file,
                        error,
                        "a file cannot be copied"
                    );
                    failed.insert(piece.number());
                }
            }
        }
        Ok(())
    }

    fn again_if_open(&self) -> Progress {
        if self.member.is_open() { Progress::Again } else { Progress::Done }
    }
}

fn is_gone(error: &DataFusionError) -> bool {
    matches!(
        compute::error::sqlstate(error),
        Some(code::CONNECTION_FAILURE | code::CANNOT_CONNECT_NOW)
    )
}

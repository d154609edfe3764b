//! The scrubber: walks through all files of a node, block by block and again and again, so that a
//! damage is found while there is still another copy, and not by a query years later.
//!
//! It reads within a budget, and while queries scan at a tenth of it. It knows no catalog: each
//! block is checked against the checksums of its own file. What it finds the node's disk remembers,
//! as for any other reader; a leader of several nodes hears of it and has the file copied anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::runtime::SpawnedTask;
use storage::deletion_vector::DeletionVector;
use storage::segment::SegmentCheck;
use storage::verify::{Depth, IoBudget};
use tokio::time::Instant;

use crate::error::chain;
use crate::integrity::ClockUs;
use crate::node::{Node, StoredFile};

/// What a byte costs while queries scan.
const PRICE_BESIDE_QUERIES: u64 = 10;
/// After the start of the process, which has other things to read.
const FIRST_DELAY: Duration = Duration::from_secs(10);

/// Scrubs a node as it is configured, until it is dropped.
pub async fn scrub(node: Arc<Node>, clock_us: ClockUs) {
    let config = node.integrity_config();
    let Some(bytes_per_second) = config.scrub_bytes_per_second else { return };
    let began = Instant::now();
    let mut pace = Pace { began, budget: IoBudget::new(bytes_per_second) };
    tokio::time::sleep(FIRST_DELAY.min(config.scrub_interval)).await;
    loop {
        pass(&node, &mut pace, &clock_us).await;
        tokio::time::sleep(config.scrub_interval).await;
    }
}

/// The budget and its clock.
struct Pace {
    began: Instant,
    budget: IoBudget,
}

impl Pace {
    /// Waits until what was read is paid for.
    async fn pay(&mut self, node: &Node, bytes: u64) {
        let wait = wait(&mut self.budget, bytes, node.is_scanned(), self.began.elapsed());
        tokio::time::sleep(wait).await;
    }
}

/// How long to wait after bytes that were read just now.
fn wait(budget: &mut IoBudget, bytes: u64, beside_queries: bool, now: Duration) -> Duration {
    let price = if beside_queries { PRICE_BESIDE_QUERIES } else { 1 };
    budget.spend(bytes.saturating_mul(price), now)
}

/// One pass over the files that are there when it begins.
async fn pass(node: &Arc<Node>, pace: &mut Pace, clock_us: &ClockUs) {
    let own = Arc::clone(node);
    let listed = SpawnedTask::spawn_blocking(move || own.stored_files()).join().await;
    let files = match listed {
        Ok(Ok(files)) => files,
        Ok(Err(error)) => {
            tracing::warn!(node = node.id(), error = chain(&error), "the scrubber sees no files");
            return;
        }
        Err(error) => {
            tracing::error!(node = node.id(), %error, "the scrubber did not list the files");
            return;
        }
    };
    let began = clock_us();
    node.note_scrub(|status| {
        status.passes += 1;
        (status.is_running, status.began_us) = (true, Some(began));
        (status.files, status.bytes) = (0, 0);
    });
    for (path, file) in files {
        check_file(node, pace, path, file).await;
        node.note_scrub(|status| status.files += 1);
    }
    let ended = clock_us();
    node.note_scrub(|status| (status.is_running, status.ended_us) = (false, Some(ended)));
}

/// A check between two of its steps.
enum Check {
    Segment(Box<SegmentCheck>),
    Deletions,
    Done,
}

async fn check_file(node: &Arc<Node>, pace: &mut Pace, path: PathBuf, file: StoredFile) {
    let io = Arc::clone(node.io());
    // The disk shall answer, not the memory of the operating system.
    io.forget_cached(&path);
    let mut check = match file {
        StoredFile::Segment(id) => {
            let check = SegmentCheck::by_id(io, &path, id, Depth::Checksums);
            Check::Segment(Box::new(check))
        }
        StoredFile::DeletionVector(..) => Check::Deletions,
    };
    while !matches!(check, Check::Done) {
        let (own, at) = (Arc::clone(node), path.clone());
        let stepped = SpawnedTask::spawn_blocking(move || step(&own, &at, file, check));
        let bytes;
        (check, bytes) = match stepped.join().await {
            Ok(stepped) => stepped,
            Err(error) => {
                let file = path.display();
                tracing::error!(node = node.id(), %file, %error, "the check of a file did not end");
                return;
            }
        };
        node.note_scrub(|status| status.bytes += bytes);
        pace.pay(node, bytes).await;
    }
    // What was read leaves the memory to the queries.
    node.io().forget_cached(&path);
}

/// The next part of a check; answers with the bytes that were read for it.
fn step(node: &Node, path: &Path, file: StoredFile, check: Check) -> (Check, u64) {
    let _turn = node.io().turn();
    match (check, file) {
        (Check::Segment(mut check), _) => match check.step() {
            Some(bytes) => (Check::Segment(check), bytes),
            None => {
                check.problems().iter().for_each(|problem| report(node, path, problem));
                (Check::Done, 0)
            }
        },
        (Check::Deletions, StoredFile::DeletionVector(segment, id)) => {
            let checked = DeletionVector::verify_by_ids(node.io().as_ref(), path, segment, id);
            let bytes = checked.unwrap_or_else(|error| {
                report(node, path, &chain(&error));
                0
            });
            (Check::Done, bytes)
        }
        (Check::Deletions | Check::Done, _) => (Check::Done, 0),
    }
}

/// Says what was found, unless the file was removed meanwhile.
fn report(node: &Node, path: &Path, problem: &dyn std::fmt::Display) {
    if !matches!(node.io().len(path), Ok(None)) {
        tracing::warn!(node = node.id(), %problem, "the scrubber has found damage");
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn queries_have_nine_tenths_of_the_disk_time() {
        let mut budget = IoBudget::new(NonZeroU64::new(1000).unwrap());
        let second = Duration::from_secs(1);
        assert_eq!(wait(&mut budget, 1000, false, Duration::ZERO), second);
        assert_eq!(wait(&mut budget, 1000, true, second), 10 * second);
        assert_eq!(wait(&mut budget, 1000, false, 11 * second), second);
    }
}

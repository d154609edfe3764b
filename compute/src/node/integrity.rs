//! What a node knows of damage to its files, and the check of what it has just written.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use storage::deletion_vector::DeletionVector;
use storage::error::{Error, Result};
use storage::ids::{ColumnId, SegmentId, SliceId};
use storage::io::DamagedFile;
use storage::verify::{Depth, Place, Problem, ProblemKind, verify_segment};
use xxhash_rust::xxh3::xxh3_64;

use super::file::{is_temporary, parse_file_name};
use super::{FileInfo, Node};
use crate::integrity::{Damage, IntegrityConfig, IntegrityStatus, ScrubStatus};

/// A scan that is at work; dropped, it is not any more.
#[derive(Debug)]
pub(crate) struct Scanning(Arc<Node>);

impl Drop for Scanning {
    fn drop(&mut self) {
        self.0.scans.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Node {
    /// What is known of the node's files.
    pub fn integrity(&self) -> IntegrityStatus {
        let (damaged, healed) = self.disk.damages();
        let damaged = damaged.into_iter().map(|file| (file, false));
        let healed = healed.into_iter().map(|file| (file, true));
        let damages = damaged.chain(healed).filter_map(|(file, healed)| damage(file, healed));
        IntegrityStatus { scrub: self.scrub_status(), damages: damages.collect() }
    }

    /// How far the scrubber is.
    pub fn scrub_status(&self) -> ScrubStatus {
        *self.scrub.lock()
    }

    pub(crate) fn note_scrub(&self, change: impl FnOnce(&mut ScrubStatus)) {
        change(&mut self.scrub.lock());
    }

    /// What the node does to find damage.
    pub(crate) fn integrity_config(&self) -> IntegrityConfig {
        self.config.integrity
    }

    /// A number that grows whenever a file is found to be damaged, is replaced or goes.
    pub(crate) fn damage_changes(&self) -> u64 {
        self.disk.damage_changes()
    }

    /// Whether a file is known to be damaged.
    pub(crate) fn is_damaged(&self, path: &Path) -> bool {
        self.disk.is_damaged(path)
    }

    /// A scan begins.
    pub(crate) fn begin_scan(self: &Arc<Self>) -> Scanning {
        self.scans.fetch_add(1, Ordering::Relaxed);
        Scanning(Arc::clone(self))
    }

    /// Whether any scan is at work.
    pub(crate) fn is_scanned(&self) -> bool {
        self.scans.load(Ordering::Relaxed) > 0
    }

    /// Reads back what was written and synced just now, if it is one of the sample. The operating
    /// system is asked to forget the file first, so that the disk answers.
    ///
    /// # Errors
    /// When the disk does not give what was written. Then no commit may name the file.
    pub(crate) fn check_written(&self, path: &Path, file: &FileInfo) -> Result<()> {
        if !is_sampled(file.number(), self.config.integrity.verify_writes_percent) {
            return Ok(());
        }
        self.io().forget_cached(path);
        match file {
            FileInfo::Segment(info) => {
                let problems = verify_segment(Arc::clone(self.io()), path, info, Depth::Values);
                if let Some(problem) = problems.into_iter().next() {
                    return Err(read_back(problem));
                }
            }
            FileInfo::Deletions(info) => DeletionVector::verify(self.io().as_ref(), path, info)?,
        }
        self.note_scrub(|status| status.writes_verified += 1);
        Ok(())
    }
}

/// What was found in a file that was read back, as an error.
fn read_back(problem: Problem) -> Error {
    let Problem { path, place, kind, reason, .. } = problem;
    match kind {
        ProblemKind::Damaged => Error::Corrupt { path, place, reason },
        ProblemKind::Unreadable(kind) => {
            let source = std::io::Error::new(kind, reason);
            Error::Io { action: "read back", path, source }
        }
    }
}

/// A part of all numbers, spread evenly and always the same.
fn is_sampled(number: SegmentId, percent: u8) -> bool {
    xxh3_64(&number.0.to_le_bytes()) % 100 < u64::from(percent)
}

/// What is known of a file of a slice; a file that is being written or copied is none.
fn damage(file: DamagedFile, is_healed: bool) -> Option<Damage> {
    let DamagedFile { path, place, reason } = file;
    if is_temporary(&path) {
        return None;
    }
    let (Some(table), Some(number)) = parse_file_name(&path) else { return None };
    Some(Damage {
        table,
        slice: slice_of(&path)?,
        number,
        path: path.display().to_string(),
        column: column_of(place),
        place: place.to_string(),
        reason,
        is_healed,
    })
}

fn slice_of(path: &Path) -> Option<SliceId> {
    let directory = path.parent()?.file_name()?.to_str()?;
    directory.strip_prefix("slice_")?.parse().ok().map(SliceId)
}

fn column_of(place: Place) -> Option<ColumnId> {
    match place {
        Place::Chunk { column, .. }
        | Place::SharedPart { column }
        | Place::Statistics { column } => Some(column),
        Place::File | Place::Header | Place::Footer | Place::Trailer | Place::DeletionVector => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::error::storage_code;

    #[test]
    fn a_sample_is_as_large_as_was_asked() {
        let sampled = |percent| (0..10_000).filter(|n| is_sampled(SegmentId(*n), percent)).count();
        assert_eq!((sampled(0), sampled(100)), (0, 10_000));
        assert!((150..250).contains(&sampled(2)), "{}", sampled(2));
    }

    /// What a full disk refuses is not taken for a broken one.
    #[test]
    fn a_file_that_cannot_be_read_back_says_why() {
        let problem = |kind| Problem {
            path: "/data/1.seg".into(),
            place: Place::File,
            bytes: (0, 0),
            kind,
            reason: "no".into(),
        };
        let code = |kind| storage_code(&read_back(problem(kind)));
        assert_eq!(code(ProblemKind::Unreadable(ErrorKind::StorageFull)), "53100");
        assert_eq!(code(ProblemKind::Unreadable(ErrorKind::Other)), "58030");
        assert_eq!(code(ProblemKind::Damaged), "XX001");
    }

    #[test]
    fn the_name_of_a_file_says_of_which_table_and_slice_it_is() {
        let of = |path: &str| {
            let place = Place::Chunk { column: ColumnId(3), row_group: 1 };
            let file = DamagedFile { path: path.into(), place, reason: String::new() };
            damage(file, false).map(|damage| (damage.table.0, damage.slice.0, damage.number.0))
        };
        let segment = "/d/slice_12/0000000a-0000000000000011.seg";
        assert_eq!(of(segment), Some((10, 12, 17)));
        let vector = "/d/slice_0/0000000a-0000000000000011-0000000000000012.dv";
        assert_eq!(of(vector), Some((10, 0, 18)));
        assert_eq!(of(&format!("{segment}.copy1.tmp")), None);
        assert_eq!(of("/d/0000000a-0000000000000011.seg"), None);
    }
}

//! Looks at the data directory of a node that no process runs on: which of the files that a catalog
//! names are there and sound, and what else lies there. Changes nothing.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use storage::error::{Error, Result};
use storage::ids::{SliceId, TableId};
use storage::io::Io;
use storage::statistics::SegmentInfo;
use storage::verify::{Depth, Problem, verify_deletion_vector, verify_segment};

use crate::node::FileInfo;
use crate::node::file::{file_path, slice_dir};

/// A file that a catalog names.
#[derive(Debug, Clone)]
pub struct NamedFile {
    /// The table.
    pub table: TableId,
    /// The slice.
    pub slice: SliceId,
    /// What the catalog keeps of it.
    pub file: FileInfo,
    /// The segment, or the one whose rows the deletion vector deletes.
    pub segment: Arc<SegmentInfo>,
}

/// What was found of a file that a catalog names.
#[derive(Debug, Clone)]
pub struct FileReport {
    /// Where it is, or should be.
    pub path: PathBuf,
    /// Whether there is no such file.
    pub is_missing: bool,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

impl FileReport {
    /// Whether the file is there and nothing is wrong with it.
    pub fn is_sound(&self) -> bool {
        !self.is_missing && self.problems.is_empty()
    }
}

/// Checks the files that a catalog names, all of them; the reports are in their order.
pub fn inspect_files(
    io: &Arc<dyn Io>,
    data_dir: &Path,
    named: &[NamedFile],
    depth: Depth,
) -> Vec<FileReport> {
    named.par_iter().map(|file| inspect(io, data_dir, file, depth)).collect()
}

fn inspect(io: &Arc<dyn Io>, data_dir: &Path, named: &NamedFile, depth: Depth) -> FileReport {
    let path = file_path(data_dir, named.table, named.slice, named.file.file());
    // A file that cannot be looked at is reported by the check below.
    let is_missing = matches!(io.len(&path), Ok(None));
    let problems = match &named.file {
        _ if is_missing => Vec::new(),
        FileInfo::Segment(info) => verify_segment(Arc::clone(io), &path, info, depth),
        FileInfo::Deletions(info) => {
            verify_deletion_vector(io.as_ref(), &path, info, &named.segment)
        }
    };
    FileReport { path, is_missing, problems }
}

/// The files in a node's slices that the catalog does not name: what a write left, or what was
/// dropped and not removed yet. The next start removes them.
pub fn unnamed_files(
    io: &dyn Io,
    data_dir: &Path,
    slices: usize,
    named: &[NamedFile],
) -> Result<Vec<PathBuf>> {
    let known: HashSet<PathBuf> = named
        .iter()
        .map(|file| file_path(data_dir, file.table, file.slice, file.file.file()))
        .collect();
    let mut unnamed = Vec::new();
    for slice in 0..slices {
        let files = match io.list(&slice_dir(data_dir, slice)) {
            Ok(files) => files,
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        unnamed.extend(files.into_iter().filter(|file| !known.contains(file)));
    }
    Ok(unnamed)
}

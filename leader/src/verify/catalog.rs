//! The catalog of a data directory, read without touching it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use compute::layout::Layout;
use compute::service::CatalogCopy;

use crate::catalog::log::{CatalogLog, rebuild, wal};
use crate::catalog::{SegmentList, Snapshot};
use crate::cluster::restore::log_record;
use crate::error::{Error, Result, chain};

#[cfg(test)]
mod tests;

/// The name of the file in a leader's data directory.
pub(super) const FILE: &str = "catalog.sqlite";

/// A copy of a catalog, open.
pub(super) struct CatalogFile {
    log: CatalogLog,
    pub(super) snapshot: Snapshot,
}

impl CatalogFile {
    /// Copies the file, with what SQLite keeps beside it, and reads the copy. The inner error says
    /// what is wrong with it.
    pub(super) fn read(data_dir: &Path, scratch: &Path) -> Result<Result<Self, Vec<String>>> {
        for beside in ["", "-wal", "-journal"] {
            let name = format!("{FILE}{beside}");
            let from = data_dir.join(&name);
            match fs::copy(&from, scratch.join(&name)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(Error::Io { action: format!("copy {}", from.display()), source });
                }
            }
        }
        let log = scratch.join(format!("{FILE}-wal"));
        let log = match fs::read(&log) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(source) => {
                return Err(Error::Io { action: format!("read {}", log.display()), source });
            }
        };
        match wal::examine(&log).problem() {
            None => Ok(Self::open(&scratch.join(FILE))),
            Some(problem) => Ok(Err(vec![problem])),
        }
    }

    /// Makes a catalog in `path` of the copy that a node has.
    pub(super) fn rebuilt(copy: CatalogCopy, path: &Path) -> Result<Self, Vec<String>> {
        let CatalogCopy { base, records } = copy;
        let records = records.into_iter().map(log_record).collect::<Result<Vec<_>>>();
        records
            .and_then(|records| rebuild(path, &base.content, &records))
            .map_err(|error| vec![chain(&error)])?;
        Self::open(path)
    }

    fn open(path: &Path) -> Result<Self, Vec<String>> {
        CatalogLog::open(path).map_err(|error| vec![chain(&error)]).and_then(Self::check)
    }

    /// Looks through a catalog that could be opened.
    fn check(log: CatalogLog) -> Result<Self, Vec<String>> {
        let problems = log.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let (snapshot, _) = log.read().map_err(|error| vec![chain(&error)])?;
        if snapshot.users().next().is_none() {
            // A server makes its superuser before it says that it is ready.
            return Err(vec!["it is empty: it knows no user".to_owned()]);
        }
        Ok(Self { log, snapshot })
    }

    /// The shape of the cluster; one node with so many slices if the catalog does not say.
    pub(super) fn layout(&mut self, slices: usize) -> Result<Layout> {
        let (nodes, slices_per_node) = self.log.shape(1, slices)?;
        Layout::new(nodes, slices_per_node)
            .ok_or_else(|| Error::CatalogDamaged("a cluster without slices".into()))
    }

    /// The number of its last write.
    pub(super) fn number(&self) -> Result<u64> {
        self.log.number()
    }

    /// What it holds, in words.
    pub(super) fn summary(&self) -> String {
        let (mut tables, mut segments, mut vectors) = (0, 0, 0);
        for table in self.snapshot.tables() {
            tables += 1;
            segments += table.slices.iter().map(SegmentList::len).sum::<usize>();
            vectors += table.deletions.len();
        }
        format!("{tables} tables, {segments} segments, {vectors} deletion vectors")
    }
}

/// What differs between a catalog and a copy of it at the same write.
pub(super) fn differences(
    file: &CatalogFile,
    copy: Result<CatalogFile, Vec<String>>,
) -> Result<Vec<String>> {
    let copy = match copy {
        Ok(copy) => copy,
        Err(problems) => return Ok(problems),
    };
    let (own, other) = (file.log.rows()?, copy.log.rows()?);
    let tables = own.keys().chain(other.keys().filter(|table| !own.contains_key(*table)));
    let differing = tables.filter(|table| own.get(*table) != other.get(*table));
    Ok(differing.map(|table| format!("the rows of {table} are not those of the catalog")).collect())
}

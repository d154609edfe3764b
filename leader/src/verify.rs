//! `blueshift verify`: checks what lies in a data directory that no server runs on. Changes nothing.
//!
//! ```text
//! directory of    holds                         what is checked
//! start           catalog, files of the nodes   all of it, and the catalog against the copies that
//!                                               several nodes have of it
//! leader          catalog                       the catalog
//! compute         copy of the catalog, files    the copy, and the files by what it says
//! ```
//!
//! Of several nodes also what says who belongs together: `epoch` of the leader, `membership` of each
//! node, and the shape of a cluster that `start` has made.
//!
//! The catalog is read from a copy in a directory of its own: opening an SQLite file may write to
//! it. Locks are shared ones, on lock files that are there: none is made.

mod catalog;
mod files;

pub use storage::verify::Depth;

#[cfg(test)]
mod tests;

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use compute::layout::Layout;
use compute::service::{check_membership, read_catalog_copy};
use storage::io::{Io, RealIo};

use crate::cluster::{epoch, supervisor};
use crate::config::FileConfig;
use crate::error::{Error, Result, chain};
use catalog::{CatalogFile, differences};
use files::{Holder, NodeReport};

/// How many nodes keep each file if the configuration says nothing.
const COPIES: usize = 2;

/// What to check.
pub struct VerifyOptions {
    /// The data directory of a process.
    pub data_dir: PathBuf,
    /// The configuration of that process.
    pub file: FileConfig,
    /// Whether values are looked into.
    pub depth: Depth,
}

/// Checks a data directory and writes what was found; answers whether all is sound.
///
/// # Errors
/// Fails if it is no data directory, if a server uses it, or if it cannot be looked at.
pub fn verify(options: &VerifyOptions, out: &mut dyn Write) -> Result<bool> {
    let data_dir = options.data_dir.as_path();
    let _lock = lock_for_reading(data_dir)?;
    let scratch = tempfile::Builder::new().prefix("blueshift-verify-").tempdir();
    let scratch = scratch.map_err(failed("make a directory for a copy of the catalog"))?;
    let mut verify = Verify { options, io: Arc::new(RealIo), out, damages: 0 };
    if data_dir.join(catalog::FILE).is_file() {
        verify.leader(scratch.path())?;
    } else if data_dir.join("slice_0").is_dir() {
        verify.compute(scratch.path())?;
    } else {
        return Err(Error::Config(format!("{} is not a data directory", data_dir.display())));
    }
    match verify.damages {
        0 => verify.line("sound: nothing is wrong")?,
        damages => verify.line(&format!("not sound: {damages} found"))?,
    }
    Ok(verify.damages == 0)
}

/// A check at work.
struct Verify<'a> {
    options: &'a VerifyOptions,
    io: Arc<dyn Io>,
    out: &'a mut dyn Write,
    /// How many things are wrong so far.
    damages: usize,
}

impl Verify<'_> {
    /// A directory with the catalog, and perhaps with nodes.
    fn leader(&mut self, scratch: &Path) -> Result<()> {
        let data_dir = self.options.data_dir.as_path();
        if let Err(error) = epoch::last(data_dir) {
            self.damage(&format!("the leader's epoch: {}", chain(&error)))?;
        }
        let mut file = match CatalogFile::read(data_dir, scratch)? {
            Ok(file) => file,
            Err(problems) => return self.catalog_is_damaged(&problems),
        };
        let slices = supervisor::slices_made_with(data_dir, 1)?.unwrap_or(1);
        let layout = file.layout(slices)?;
        self.line(&format!("catalog: {}", file.summary()))?;
        self.shape(layout)?;
        let directory = |node| data_dir.join(format!("node{node}"));
        let directories: Vec<PathBuf> = (0..layout.nodes()).map(directory).collect();
        let is_apart = !directories.iter().any(|directory| directory.is_dir());
        if is_apart && layout.nodes() > 1 {
            return self.line("files of tables are on the compute nodes: check each of them there");
        }
        let mut locks = Vec::new();
        let mut reports = Vec::new();
        for (node, directory) in directories.iter().enumerate() {
            locks.push(lock_for_reading(directory)?);
            self.membership(&format!("node {node}"), directory)?;
            let holder = self.holder(node, layout);
            reports.push(self.inspect(&file, Some(node), directory, holder));
        }
        self.reports(&file, &reports)?;
        if layout.nodes() > 1 {
            self.copies(&mut file, &directories, scratch)?;
        }
        Ok(())
    }

    /// The directory of one of several nodes, by its copy of the catalog.
    fn compute(&mut self, scratch: &Path) -> Result<()> {
        let data_dir = self.options.data_dir.as_path();
        self.membership("the node", data_dir)?;
        let copy = match read_catalog_copy(self.io.as_ref(), data_dir) {
            Ok(Some(copy)) => copy,
            Ok(None) => {
                return self.line("no leader has opened the node: there is nothing to check");
            }
            Err(problem) => return self.catalog_is_damaged(&[problem]),
        };
        let mut file = match CatalogFile::rebuilt(copy, &scratch.join("copy.sqlite")) {
            Ok(file) => file,
            Err(problems) => return self.catalog_is_damaged(&problems),
        };
        let layout = file.layout(1)?;
        self.line(&format!("copy of the catalog: {}", file.summary()))?;
        let node = self.options.file.cluster.node;
        if node.is_none() {
            self.line(
                "which node it is, --config would say: files that are not there go unnoticed",
            )?;
        }
        let holder = node.map_or(Holder::Unknown(layout), |node| self.holder(node, layout));
        let report = self.inspect(&file, node, data_dir, holder);
        self.reports(&file, &[report])
    }

    /// What a node remembers of its cluster and its last leader.
    fn membership(&mut self, node: &str, directory: &Path) -> Result<()> {
        match check_membership(self.io.as_ref(), directory) {
            Ok(()) => Ok(()),
            Err(problem) => self.damage(&format!("{node}: membership: {problem}")),
        }
    }

    /// The shape of a cluster that `start` has made, against that of the catalog.
    fn shape(&mut self, layout: Layout) -> Result<()> {
        let own = (layout.nodes(), layout.slices_per_node());
        match supervisor::shape_made_with(&self.options.data_dir) {
            Ok(None) => Ok(()),
            Ok(Some(shape)) if shape == own => Ok(()),
            Ok(Some((nodes, slices))) => self.damage(&format!(
                "the shape of the cluster: {nodes} nodes with {slices} slices each, and in the catalog \
                 {} with {}",
                own.0, own.1
            )),
            Err(error) => self.damage(&format!("the shape of the cluster: {}", chain(&error))),
        }
    }

    fn holder(&self, node: usize, layout: Layout) -> Holder {
        let copies = self.options.file.cluster.copies.unwrap_or(COPIES);
        Holder::Node { node, copies, layout }
    }

    fn inspect(
        &self,
        file: &CatalogFile,
        node: Option<usize>,
        directory: &Path,
        holder: Holder,
    ) -> NodeReport {
        NodeReport::new(&self.io, &file.snapshot, node, directory, holder, self.options.depth)
    }

    fn reports(&mut self, file: &CatalogFile, reports: &[NodeReport]) -> Result<()> {
        for report in reports {
            for finding in report.findings(&file.snapshot, reports) {
                self.damage(&finding)?;
            }
            self.line(&report.summary())?;
        }
        Ok(())
    }

    /// Holds the catalog against the copies of it that the nodes have.
    fn copies(
        &mut self,
        file: &mut CatalogFile,
        directories: &[PathBuf],
        scratch: &Path,
    ) -> Result<()> {
        let own = file.number()?;
        for (node, directory) in directories.iter().enumerate() {
            let copy = match read_catalog_copy(self.io.as_ref(), directory) {
                Ok(Some(copy)) => copy,
                Ok(None) => continue,
                Err(problem) => {
                    self.damage(&format!("node {node}: copy of the catalog: {problem}"))?;
                    continue;
                }
            };
            let (_, number) = copy.last();
            match number.cmp(&own) {
                std::cmp::Ordering::Less => {
                    self.line(&format!("node {node}: its copy of the catalog is an older one"))?;
                }
                std::cmp::Ordering::Equal => {
                    let rebuilt =
                        CatalogFile::rebuilt(copy, &scratch.join(format!("copy{node}.sqlite")));
                    for difference in differences(file, rebuilt)? {
                        self.damage(&format!("node {node}: copy of the catalog: {difference}"))?;
                    }
                }
                std::cmp::Ordering::Greater => {
                    let lost = number - own;
                    let text = format!(
                        "the catalog: the last {lost} writes that node {node} has are not in it"
                    );
                    self.damage(&text)?;
                }
            }
        }
        Ok(())
    }

    fn catalog_is_damaged(&mut self, problems: &[String]) -> Result<()> {
        for problem in problems {
            self.damage(&format!("the catalog: {problem}"))?;
        }
        self.line("without a catalog nobody knows which files there have to be: none was checked")
    }

    fn damage(&mut self, text: &str) -> Result<()> {
        self.damages += 1;
        self.line(text)
    }

    fn line(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{text}").map_err(failed("write what was found"))
    }
}

/// Keeps servers away from a data directory, as long as it is held. None if no server was ever
/// started there.
fn lock_for_reading(directory: &Path) -> Result<Option<File>> {
    let path = directory.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(Error::Io { action: format!("open {}", path.display()), source });
        }
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let text = "is in use by a server; stop it, or let its scrubber do this";
            Err(Error::Config(format!("the data directory {} {text}", directory.display())))
        }
        Err(TryLockError::Error(source)) => {
            Err(Error::Io { action: format!("lock {}", path.display()), source })
        }
    }
}

fn failed(action: &str) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let action = action.to_owned();
    move |source| Error::Io { action, source }
}

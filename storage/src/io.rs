//! The only code of this crate that touches the file system.
//!
//! [`Io`] is the small set of calls that storage needs; [`RealIo`] makes them, [`MemoryIo`] keeps
//! files in memory and knows what a power cut would leave of them, [`FaultyIo`] lets a chosen call
//! fail. Files are written once, front to back, and read at any place.
//!
//! Invariants: a file whose append or sync failed is never trusted again ([`OutputFile`] refuses
//! every later call: after a failed fsync the kernel may have dropped the dirty pages and a second
//! fsync would lie); a sync that fails is [`Error::SyncFailed`] and nothing else is; a name is
//! durable only after [`Io::sync_directory`].

mod damage;
mod disk;
mod faulty;
mod memory;

pub use damage::DamagedFile;
pub use disk::{DiskIo, DiskTraits, EncodingAim, Turn};
pub use faulty::{CallKind, Fault, FaultEffect, FaultyIo};
pub use memory::{MemoryIo, PowerCut};

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use faults::{Defect, Place};

use crate::error::{Error, Result};

/// Ends the name of a file that is still being written. Such a file belongs to nobody after a
/// restart and may be removed.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// The calls that storage makes on files. All of them block.
pub trait Io: fmt::Debug + Send + Sync {
    /// Starts a new file of that name; what was there before is gone.
    fn create(&self, path: &Path) -> Result<Box<dyn OutputFile>>;

    /// Fills `buffer` with the bytes from `offset` on; a file that ends earlier is an error.
    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// The length of a file in bytes; `None` if there is no file of that name.
    fn len(&self, path: &Path) -> Result<Option<u64>>;

    /// Gives a file another name in one step; what had that name before is gone.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a file. After a power cut it may be back, until its directory is synced: what was
    /// removed must be an orphan, which a sweep removes again.
    fn remove(&self, path: &Path) -> Result<()>;

    /// The paths of the files in a directory, in order of name.
    fn list(&self, directory: &Path) -> Result<Vec<PathBuf>>;

    /// Creates a directory and its missing parents, durably. One that is there already is fine.
    fn create_directory(&self, directory: &Path) -> Result<()>;

    /// Makes the names in a directory durable.
    fn sync_directory(&self, directory: &Path) -> Result<()>;

    /// Says that these bytes will be read soon. Never blocks; failing to help is no error.
    fn will_need(&self, path: &Path, offset: u64, length: u64);

    /// Drops what the operating system has in memory of a file, so that the next read asks the disk.
    /// Failing to is no error.
    fn forget_cached(&self, path: &Path) {
        let _ = path;
    }

    /// Is told of every error that says that bytes of a file are not what was written.
    fn note_damage(&self, error: &Error) {
        let _ = error;
    }

    /// How the disk wants to be used.
    fn traits(&self) -> DiskTraits {
        DiskTraits::FAST
    }

    /// Waits until the disk has a reader less than it takes. Whoever reads rows holds a turn while it
    /// reads, and asks for no other.
    fn turn(&self) -> Turn<'_> {
        Turn::free()
    }
}

/// A file that is being written.
pub trait OutputFile: fmt::Debug + Send {
    /// Writes all of `bytes` at the end.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes everything appended so far durable.
    fn sync(&mut self) -> Result<()>;
}

/// Writes a file so that `path` names either nothing or all of it, durably: under a temporary name
/// first, then synced, renamed, and the directory synced.
///
/// On an error the name `path` may exist or not; if it exists, the file is whole, but not known to
/// be durable. The caller gives up the file (and its id): nothing may refer to it.
pub fn write_file_whole<'a>(
    io: &dyn Io,
    path: &Path,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<()> {
    let temporary = temporary_path(path);
    let written = write_temporary(io, &temporary, parts).and_then(|()| io.rename(&temporary, path));
    if let Err(error) = written {
        // The write has failed already; an orphan is swept later if this fails too.
        let _ = io.remove(&temporary);
        return Err(error);
    }
    faults::point(Place::FileRenamed);
    if faults::planted(Defect::SkipDirectorySync) {
        return Ok(());
    }
    io.sync_directory(parent(path))?;
    faults::point(Place::FileDurable);
    Ok(())
}

fn write_temporary<'a>(
    io: &dyn Io,
    temporary: &Path,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<()> {
    let mut file = io.create(temporary)?;
    for part in parts {
        file.append(part)?;
    }
    faults::point(Place::FileWritten);
    if faults::planted(Defect::SkipFileSync) {
        return Ok(());
    }
    file.sync()?;
    faults::point(Place::FileSynced);
    Ok(())
}

/// The name under which [`write_file_whole`] writes `path`.
pub fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    PathBuf::from(name)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}

fn sync_failed(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::SyncFailed { path: path.to_owned(), source }
}

/// The file system of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealIo;

impl Io for RealIo {
    fn create(&self, path: &Path) -> Result<Box<dyn OutputFile>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(failed("create", path))?;
        Ok(Box::new(RealOutputFile { file, path: path.to_owned(), broken: false }))
    }

    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let file = File::open(path).map_err(failed("open", path))?;
        file.read_exact_at(buffer, offset).map_err(failed("read", path))
    }

    fn len(&self, path: &Path) -> Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("look at", path)(error)),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(failed("rename", from))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(failed("remove", path))
    }

    fn list(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed("list", directory))? {
            let entry = entry.map_err(failed("list", directory))?;
            if entry.file_type().map_err(failed("list", directory))?.is_file() {
                paths.push(entry.path());
            }
        }
        paths.sort_unstable();
        Ok(paths)
    }

    fn create_directory(&self, directory: &Path) -> Result<()> {
        if directory.as_os_str().is_empty() || directory.is_dir() {
            return Ok(());
        }
        let above = parent(directory);
        if above != directory {
            self.create_directory(above)?;
        }
        match fs::create_dir(directory) {
            Ok(()) => {}
            // Somebody else was quicker.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && directory.is_dir() => {}
            Err(error) => return Err(failed("create", directory)(error)),
        }
        self.sync_directory(above)
    }

    fn sync_directory(&self, directory: &Path) -> Result<()> {
        let handle = File::open(directory).map_err(failed("open", directory))?;
        handle.sync_all().map_err(sync_failed(directory))
    }

    fn will_need(&self, path: &Path, offset: u64, length: u64) {
        if let (Ok(file), Some(length)) = (File::open(path), NonZeroU64::new(length)) {
            // Advice only: a file system that ignores or refuses it costs time, not correctness.
            let _ = rustix::fs::fadvise(&file, offset, Some(length), rustix::fs::Advice::WillNeed);
        }
    }

    fn forget_cached(&self, path: &Path) {
        if let Ok(file) = File::open(path) {
            // Advice only. Pages that are not on the disk yet stay.
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        }
    }
}

#[derive(Debug)]
struct RealOutputFile {
    file: File,
    path: PathBuf,
    /// An append or a sync failed: what the file holds is unknown.
    broken: bool,
}

impl RealOutputFile {
    /// Runs a call, unless one failed before.
    fn run(
        &mut self,
        action: &'static str,
        call: impl FnOnce(&mut File, &Path) -> Result<()>,
    ) -> Result<()> {
        if self.broken {
            return Err(broken(action, &self.path));
        }
        let result = call(&mut self.file, &self.path);
        self.broken = result.is_err();
        result
    }
}

impl OutputFile for RealOutputFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.run("write", |file, path| file.write_all(bytes).map_err(failed("write", path)))
    }

    fn sync(&mut self) -> Result<()> {
        self.run("sync", |file, path| file.sync_all().map_err(sync_failed(path)))
    }
}

/// The error of every call on a file whose append or sync has failed before.
fn broken(action: &'static str, path: &Path) -> Error {
    failed(action, path)(std::io::Error::other("an earlier write or sync of this file failed"))
}

#[cfg(test)]
mod tests;

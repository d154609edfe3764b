//! How a disk wants to be read, and files on such a disk.
//!
//! A spinning disk gives its rate to one reader that reads far ahead, and loses most of it to several
//! that make it seek; flash wants many small reads at once. [`DiskTraits`] says which it is, and all
//! code that chooses between the two asks the [`Io`] that it reads through.
//!
//! [`DiskIo`] also remembers whether a sync has failed on it: whoever owns the disk writes nothing
//! more to it then. And it remembers which of its files are damaged.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use faults::Defect;
use parking_lot::{Condvar, Mutex};

use super::damage::{DamagedFile, Damages};
use super::{Io, OutputFile};
use crate::error::{Error, Result};

/// How a disk wants to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskTraits {
    /// Reads of rows at one time, at most; at least 1.
    pub reads_in_flight: usize,
    /// Bytes of one column that a read fetches at once where they lie together; 0 reads what was
    /// asked for, and tells the operating system what will be needed next.
    pub run_bytes: u64,
    /// What ENCODE AUTO aims at.
    pub encoding: EncodingAim,
}

/// What ENCODE AUTO aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodingAim {
    /// Fast decoding: a smaller encoding that is slower must be much smaller.
    Speed,
    /// The fewest bytes: the disk is slower than any decoder.
    Size,
}

impl DiskTraits {
    /// Flash, or memory.
    pub const FAST: Self = Self { reads_in_flight: 64, run_bytes: 0, encoding: EncodingAim::Speed };
    /// A spinning disk: one reader, 8 MiB at a time, which takes about five times as long as the
    /// seek before it.
    pub const SEQUENTIAL: Self =
        Self { reads_in_flight: 1, run_bytes: 8 << 20, encoding: EncodingAim::Size };
}

/// Files on a disk with traits.
#[derive(Debug)]
pub struct DiskIo {
    inner: Arc<dyn Io>,
    traits: DiskTraits,
    reads_left: Mutex<usize>,
    read_ended: Condvar,
    unsynced: Arc<OnceLock<PathBuf>>,
    damages: Mutex<Damages>,
}

impl DiskIo {
    /// The files of `inner`, on a disk with these traits.
    pub fn new(inner: Arc<dyn Io>, traits: DiskTraits) -> Self {
        assert!(traits.reads_in_flight > 0, "a disk is read by somebody");
        let reads_left = Mutex::new(traits.reads_in_flight);
        Self {
            inner,
            traits,
            reads_left,
            read_ended: Condvar::new(),
            unsynced: Arc::default(),
            damages: Mutex::default(),
        }
    }

    /// The first file or directory that could not be made durable, if there is one. What is on the
    /// disk of it is not known any more.
    pub fn failed_sync(&self) -> Option<&Path> {
        self.unsynced.get().map(PathBuf::as_path)
    }

    /// Whether a file is known to be damaged.
    pub fn is_damaged(&self, path: &Path) -> bool {
        self.damages.lock().contains(path)
    }

    /// A number that grows whenever a file is found to be damaged, is replaced or goes.
    pub fn damage_changes(&self) -> u64 {
        self.damages.lock().changes()
    }

    /// The files that are damaged, and the last ones that were until they were replaced.
    pub fn damages(&self) -> (Vec<DamagedFile>, Vec<DamagedFile>) {
        self.damages.lock().lists()
    }
}

/// Remembers the path if a sync has failed.
fn note<T>(unsynced: &OnceLock<PathBuf>, result: Result<T>) -> Result<T> {
    if let Err(Error::SyncFailed { path, .. }) = &result
        && !faults::planted(Defect::SkipFence)
    {
        // The first one is kept.
        let _ = unsynced.set(path.clone());
    }
    result
}

/// A file whose failed sync is remembered.
#[derive(Debug)]
struct NotedFile {
    inner: Box<dyn OutputFile>,
    unsynced: Arc<OnceLock<PathBuf>>,
}

impl OutputFile for NotedFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.append(bytes)
    }

    fn sync(&mut self) -> Result<()> {
        note(&self.unsynced, self.inner.sync())
    }
}

/// The right to read rows; dropped, it is the next reader's.
#[derive(Debug)]
pub struct Turn<'d>(Option<&'d DiskIo>);

impl Turn<'_> {
    /// Of a disk that anyone may read at any time.
    pub(super) fn free() -> Self {
        Self(None)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(disk) = self.0 {
            *disk.reads_left.lock() += 1;
            disk.read_ended.notify_one();
        }
    }
}

impl Io for DiskIo {
    fn traits(&self) -> DiskTraits {
        self.traits
    }

    fn turn(&self) -> Turn<'_> {
        let mut left = self.reads_left.lock();
        while *left == 0 {
            self.read_ended.wait(&mut left);
        }
        *left -= 1;
        Turn(Some(self))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn OutputFile>> {
        let inner = self.inner.create(path)?;
        Ok(Box::new(NotedFile { inner, unsynced: Arc::clone(&self.unsynced) }))
    }

    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let read = self.inner.read_at(path, offset, buffer);
        if let Err(error) = &read {
            self.note_damage(error);
        }
        read
    }

    fn len(&self, path: &Path) -> Result<Option<u64>> {
        self.inner.len(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.rename(from, to)?;
        let mut damages = self.damages.lock();
        damages.removed(from);
        damages.replaced(to);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.inner.remove(path)?;
        self.damages.lock().removed(path);
        Ok(())
    }

    fn list(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        self.inner.list(directory)
    }

    fn create_directory(&self, directory: &Path) -> Result<()> {
        note(&self.unsynced, self.inner.create_directory(directory))
    }

    fn sync_directory(&self, directory: &Path) -> Result<()> {
        note(&self.unsynced, self.inner.sync_directory(directory))
    }

    /// Where reads fetch runs, those are the read-ahead, and a second reader would only seek.
    fn will_need(&self, path: &Path, offset: u64, length: u64) {
        if self.traits.run_bytes == 0 {
            self.inner.will_need(path, offset, length);
        }
    }

    fn forget_cached(&self, path: &Path) {
        self.inner.forget_cached(path);
    }

    fn note_damage(&self, error: &Error) {
        self.damages.lock().note(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::MemoryIo;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn damaged_files_are_remembered_until_they_are_replaced() {
        let memory = MemoryIo::new();
        let disk = DiskIo::new(Arc::new(memory), DiskTraits::FAST);
        let (path, other) = (Path::new("/data/1"), Path::new("/data/2"));
        for path in [path, other] {
            disk.create(path).unwrap();
        }
        let corrupt = |path: &Path| Error::Corrupt {
            path: path.to_owned(),
            place: crate::verify::Place::File,
            reason: "bit".into(),
        };
        disk.note_damage(&corrupt(path));
        assert!(disk.is_damaged(path) && !disk.is_damaged(other));
        disk.note_damage(&corrupt(other));
        disk.rename(other, path).unwrap();
        assert!(!disk.is_damaged(path) && !disk.is_damaged(other));
        let (now, healed) = disk.damages();
        assert_eq!((now, healed.len()), (vec![], 1));
        disk.note_damage(&corrupt(path));
        disk.remove(path).unwrap();
        assert!(!disk.is_damaged(path));
    }

    #[test]
    fn no_more_than_so_many_read_at_once() {
        for most in [1, 3] {
            let traits = DiskTraits { reads_in_flight: most, ..DiskTraits::SEQUENTIAL };
            let disk = DiskIo::new(Arc::new(MemoryIo::new()), traits);
            let (reading, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        for _ in 0..200 {
                            let _turn = disk.turn();
                            let now = reading.fetch_add(1, Ordering::SeqCst) + 1;
                            peak.fetch_max(now, Ordering::SeqCst);
                            std::thread::yield_now();
                            reading.fetch_sub(1, Ordering::SeqCst);
                        }
                    });
                }
            });
            assert_eq!(peak.load(Ordering::SeqCst), most);
        }
    }
}

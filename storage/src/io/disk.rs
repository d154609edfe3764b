//! How a disk wants to be read, and files on such a disk.
//!
//! A spinning disk gives its rate to one reader that reads far ahead, and loses most of it to several
//! that make it seek; flash wants many small reads at once. [`DiskTraits`] says which it is, and all
//! code that chooses between the two asks the [`Io`] that it reads through.
//!
//! [`DiskIo`] also remembers whether a sync has failed on it: whoever owns the disk writes nothing
//! more to it then.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};

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
}

impl DiskIo {
    /// The files of `inner`, on a disk with these traits.
    pub fn new(inner: Arc<dyn Io>, traits: DiskTraits) -> Self {
        assert!(traits.reads_in_flight > 0, "a disk is read by somebody");
        let reads_left = Mutex::new(traits.reads_in_flight);
        let unsynced = Arc::default();
        Self { inner, traits, reads_left, read_ended: Condvar::new(), unsynced }
    }

    /// The first file or directory that could not be made durable, if there is one. What is on the
    /// disk of it is not known any more.
    pub fn failed_sync(&self) -> Option<&Path> {
        self.unsynced.get().map(PathBuf::as_path)
    }
}

/// Remembers the path if a sync has failed.
fn note<T>(unsynced: &OnceLock<PathBuf>, result: Result<T>) -> Result<T> {
    if let Err(Error::SyncFailed { path, .. }) = &result {
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
        self.inner.read_at(path, offset, buffer)
    }

    fn len(&self, path: &Path) -> Result<Option<u64>> {
        self.inner.len(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.inner.remove(path)
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::MemoryIo;
    use std::sync::atomic::{AtomicUsize, Ordering};

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

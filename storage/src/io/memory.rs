//! Files in memory that know what a power cut would leave of them.
//!
//! Each file has bytes and a synced length; each name change (create, rename, remove) waits until
//! its directory is synced. [`MemoryIo::power_cut`] throws away, keeps or tears what was not
//! synced. The model is stricter than most file systems: syncing a new file does not make its name
//! durable.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Io, OutputFile, broken, failed, parent};
use crate::error::{Error, Result};

/// The unit in which a disk loses unsynced bytes.
const SECTOR_BYTES: usize = 512;

/// What a power cut does to bytes and names that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerCut {
    /// They are lost.
    Lost,
    /// They all happen to have reached the disk.
    Kept,
    /// Some reached the disk: a random number of the oldest name changes, and of each file a random
    /// part, of which random sectors hold zeros. The seed decides.
    Torn(u64),
}

/// Files in memory. Clones share the files.
#[derive(Debug, Clone, Default)]
pub struct MemoryIo {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, FileState>,
    /// What a running program sees.
    names: BTreeMap<PathBuf, u64>,
    /// What is sure to be there after a power cut.
    durable_names: BTreeMap<PathBuf, u64>,
    /// Name changes whose directory was not synced yet, oldest first.
    pending: Vec<NameChange>,
    next_file: u64,
    /// Files opened for writing before the last power cut are dead.
    boots: u64,
}

#[derive(Debug, Default)]
struct FileState {
    bytes: Vec<u8>,
    synced_length: usize,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl NameChange {
    fn directory(&self) -> &Path {
        match self {
            Self::Set(path, _) | Self::Remove(path) | Self::Rename(path, _, _) => parent(path),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Set(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl State {
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }
}

impl MemoryIo {
    /// No files yet.
    pub fn new() -> MemoryIo {
        MemoryIo::default()
    }

    /// Cuts the power and starts again: afterwards only what survived is there, and it is durable.
    pub fn power_cut(&self, cut: PowerCut) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut random = Random(match cut {
            PowerCut::Torn(seed) => seed,
            PowerCut::Lost | PowerCut::Kept => 0,
        });
        let survivors = match cut {
            PowerCut::Lost => 0,
            PowerCut::Kept => state.pending.len(),
            PowerCut::Torn(_) => random.below(state.pending.len() + 1),
        };
        for change in state.pending.drain(..).take(survivors) {
            change.apply(&mut state.durable_names);
        }
        for file in state.files.values_mut() {
            match cut {
                PowerCut::Lost => file.bytes.truncate(file.synced_length),
                PowerCut::Kept => {}
                PowerCut::Torn(_) => tear(file, &mut random),
            }
            file.synced_length = file.bytes.len();
        }
        state.names = state.durable_names.clone();
        state.boots += 1;
    }

    /// Changes the bytes of a file behind the back of everybody, as a bad disk does.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut state = self.state.lock();
        let file = *state.names.get(path).ok_or_else(|| not_found("damage", path))?;
        let file = state.files.entry(file).or_default();
        change(&mut file.bytes);
        file.synced_length = file.bytes.len();
        Ok(())
    }

    /// All bytes of a file.
    pub fn contents(&self, path: &Path) -> Result<Vec<u8>> {
        let length = self.len(path)?.ok_or_else(|| not_found("read", path))?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.read_at(path, 0, &mut bytes)?;
        Ok(bytes)
    }
}

fn tear(file: &mut FileState, random: &mut Random) {
    let unsynced = file.bytes.len() - file.synced_length;
    file.bytes.truncate(file.synced_length + random.below(unsynced + 1));
    for sector in file.bytes[file.synced_length..].chunks_mut(SECTOR_BYTES) {
        if random.below(4) == 0 {
            sector.fill(0);
        }
    }
}

fn not_found(action: &'static str, path: &Path) -> Error {
    failed(action, path)(ErrorKind::NotFound.into())
}

impl Io for MemoryIo {
    fn create(&self, path: &Path) -> Result<Box<dyn OutputFile>> {
        let mut state = self.state.lock();
        let file = state.next_file;
        state.next_file += 1;
        state.files.insert(file, FileState::default());
        state.change(NameChange::Set(path.to_owned(), file));
        let boot = state.boots;
        drop(state);
        Ok(Box::new(MemoryOutputFile { io: self.clone(), file, boot, path: path.to_owned() }))
    }

    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let state = self.state.lock();
        let file = state.names.get(path).ok_or_else(|| not_found("open", path))?;
        let bytes = state.files.get(file).map_or(&[][..], |file| &file.bytes);
        let part = usize::try_from(offset)
            .ok()
            .and_then(|start| Some((start, start.checked_add(buffer.len())?)))
            .and_then(|(start, end)| bytes.get(start..end));
        match part {
            Some(part) => {
                buffer.copy_from_slice(part);
                Ok(())
            }
            None => Err(failed("read", path)(ErrorKind::UnexpectedEof.into())),
        }
    }

    fn len(&self, path: &Path) -> Result<Option<u64>> {
        let state = self.state.lock();
        let file = state.names.get(path).and_then(|file| state.files.get(file));
        Ok(file.map(|file| file.bytes.len() as u64))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.state.lock();
        let file = *state.names.get(from).ok_or_else(|| not_found("rename", from))?;
        state.change(NameChange::Rename(from.to_owned(), to.to_owned(), file));
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let mut state = self.state.lock();
        if !state.names.contains_key(path) {
            return Err(not_found("remove", path));
        }
        state.change(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn list(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        let state = self.state.lock();
        Ok(state.names.keys().filter(|path| parent(path) == directory).cloned().collect())
    }

    /// Directories are not kept: every one is there.
    fn create_directory(&self, _directory: &Path) -> Result<()> {
        Ok(())
    }

    fn sync_directory(&self, directory: &Path) -> Result<()> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.pending.retain(|change| {
            let synced = change.directory() == directory;
            if synced {
                change.apply(&mut state.durable_names);
            }
            !synced
        });
        Ok(())
    }

    fn will_need(&self, _path: &Path, _offset: u64, _length: u64) {}
}

#[derive(Debug)]
struct MemoryOutputFile {
    io: MemoryIo,
    file: u64,
    boot: u64,
    path: PathBuf,
}

impl MemoryOutputFile {
    fn change(&self, action: &'static str, change: impl FnOnce(&mut FileState)) -> Result<()> {
        let mut state = self.io.state.lock();
        if state.boots != self.boot {
            return Err(broken(action, &self.path));
        }
        change(state.files.entry(self.file).or_default());
        Ok(())
    }
}

impl OutputFile for MemoryOutputFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.change("write", |file| file.bytes.extend_from_slice(bytes))
    }

    fn sync(&mut self) -> Result<()> {
        self.change("sync", |file| file.synced_length = file.bytes.len())
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): the
/// seed is passed in, so that a torn state can be made again.
struct Random(u64);

impl Random {
    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

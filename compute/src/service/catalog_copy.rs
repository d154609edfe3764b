//! A node's copy of the leader's catalog: what was in it at one commit (the base), and what each
//! commit since then changed (the records). With it a catalog can be rebuilt whose disk was lost.
//!
//! ```text
//! <data directory>/catalog/base-00000000000000000120
//! <data directory>/catalog/record-00000000000000000121, ...
//!
//! file: b"BSCATLOG", epoch u64, number u64, content, XXH3-64 of all before; little endian
//! ```
//!
//! The node knows nothing of what a base or a record says; that is the leader's affair. It only
//! keeps them in order: a record is taken after its predecessor and nowhere else, and a base takes
//! the place of everything, also of what a leader with another history left.

use std::path::{Path, PathBuf};

use storage::io::{Io, write_file_whole};
use xxhash_rust::xxh3::xxh3_64;

/// The name of the directory in the node's data directory.
const DIRECTORY: &str = "catalog";
const MAGIC: &[u8; 8] = b"BSCATLOG";
/// Magic, epoch and number.
const HEAD_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = 8;

/// One step in the history of a catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogPart {
    /// Of the leader that sent it.
    pub epoch: u64,
    /// Which commit it is; 1 is the first.
    pub number: u64,
    /// In the leader's own words.
    pub content: Vec<u8>,
}

/// A catalog as a node has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogCopy {
    /// All of the catalog at one commit.
    pub base: CatalogPart,
    /// What each later commit changed, the first of them right after the base.
    pub records: Vec<CatalogPart>,
}

impl CatalogCopy {
    /// The epoch and the number of its last commit: the greater, the newer.
    pub fn last(&self) -> (u64, u64) {
        let last = self.records.last().unwrap_or(&self.base);
        (last.epoch, last.number)
    }
}

/// The copy of the catalog in the data directory of a node that no process runs on; `None` if no
/// leader has sent one.
///
/// # Errors
/// Says what is wrong with the copy.
pub fn read_catalog_copy(io: &dyn Io, data_dir: &Path) -> Result<Option<CatalogCopy>, String> {
    CatalogDirectory::new(io, data_dir).read()
}

/// Where a node keeps its copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct CatalogDirectory<'a> {
    io: &'a dyn Io,
    data_dir: &'a Path,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Base,
    Record,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Base => "base-",
            Self::Record => "record-",
        }
    }
}

impl<'a> CatalogDirectory<'a> {
    pub(super) fn new(io: &'a dyn Io, data_dir: &'a Path) -> Self {
        Self { io, data_dir }
    }

    /// Takes a whole catalog in place of what there was. Durable when it returns.
    pub(super) fn store_base(self, part: &CatalogPart) -> Result<(), String> {
        self.io.create_directory(&self.directory()).map_err(text)?;
        // What is newer belongs to another history and must never follow this base: it goes first.
        let files = self.files()?;
        let newer = files.iter().filter(|(_, number, _)| *number > part.number);
        if self.remove(newer)? > 0 {
            self.io.sync_directory(&self.directory()).map_err(text)?;
        }
        self.write(Kind::Base, part)?;
        let is_old = |(kind, number, _): &&(Kind, u64, PathBuf)| {
            *number < part.number || (*number == part.number && *kind == Kind::Record)
        };
        self.remove(files.iter().filter(is_old))?;
        Ok(())
    }

    /// Takes the next record. Durable when it returns.
    ///
    /// # Errors
    /// Fails if the last part that the node has is not the one before.
    pub(super) fn store_record(self, part: &CatalogPart) -> Result<(), String> {
        let last = self.last_number()?;
        if last.is_none_or(|last| last.checked_add(1) != Some(part.number)) {
            let last = last.map_or_else(|| "none".to_owned(), |last| last.to_string());
            return Err(format!("record {} cannot follow {last}", part.number));
        }
        self.write(Kind::Record, part)
    }

    /// The number of the last commit that it has, whether or not it can be read; `None` if no leader
    /// has sent one.
    pub(super) fn last_number(self) -> Result<Option<u64>, String> {
        Ok(self.files()?.iter().map(|(_, number, _)| *number).max())
    }

    /// All of the copy, verified; `None` if no leader has sent one.
    pub(super) fn read(self) -> Result<Option<CatalogCopy>, String> {
        let files = self.files()?;
        let bases = files.iter().filter(|(kind, ..)| *kind == Kind::Base);
        let Some((_, number, path)) = bases.max_by_key(|(_, number, _)| *number) else {
            return Ok(None);
        };
        let base = self.read_part(*number, path)?;
        let mut records: Vec<CatalogPart> = Vec::new();
        let later = |(kind, number, _): &&(Kind, u64, PathBuf)| {
            *kind == Kind::Record && *number > base.number
        };
        // In order of name, which is that of the numbers.
        for (_, number, path) in files.iter().filter(later) {
            let expected = base.number + records.len() as u64 + 1;
            if *number != expected {
                return Err(format!("{}: record {expected} is missing", path.display()));
            }
            records.push(self.read_part(*number, path)?);
        }
        Ok(Some(CatalogCopy { base, records }))
    }

    fn directory(self) -> PathBuf {
        self.data_dir.join(DIRECTORY)
    }

    fn files(self) -> Result<Vec<(Kind, u64, PathBuf)>, String> {
        // A directory that is not there has no files.
        let paths = match self.io.list(&self.directory()) {
            Ok(paths) => paths,
            Err(storage::error::Error::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.to_string()),
        };
        let known = paths.into_iter().filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            let kinds = [Kind::Base, Kind::Record];
            let (kind, number) = kinds
                .iter()
                .find_map(|kind| Some((*kind, name.strip_prefix(kind.prefix())?.parse().ok()?)))?;
            Some((kind, number, path))
        });
        Ok(known.collect())
    }

    fn remove<'f>(
        self,
        files: impl Iterator<Item = &'f (Kind, u64, PathBuf)>,
    ) -> Result<usize, String> {
        let mut removed = 0;
        for (_, _, path) in files {
            self.io.remove(path).map_err(text)?;
            removed += 1;
        }
        Ok(removed)
    }

    fn write(self, kind: Kind, part: &CatalogPart) -> Result<(), String> {
        let path = self.directory().join(format!("{}{:020}", kind.prefix(), part.number));
        let mut bytes = Vec::with_capacity(HEAD_BYTES + part.content.len() + CHECKSUM_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&part.epoch.to_le_bytes());
        bytes.extend_from_slice(&part.number.to_le_bytes());
        bytes.extend_from_slice(&part.content);
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        write_file_whole(self.io, &path, [bytes.as_slice()]).map_err(text)
    }

    fn read_part(self, number: u64, path: &Path) -> Result<CatalogPart, String> {
        let damaged = || format!("{} is damaged", path.display());
        let length = self.io.len(path).map_err(text)?.ok_or_else(damaged)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(text)?];
        self.io.read_at(path, 0, &mut bytes).map_err(text)?;
        let (whole, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(damaged)?;
        let head = whole.strip_prefix(MAGIC).and_then(|rest| rest.split_first_chunk::<8>());
        let (epoch, rest) = head.ok_or_else(damaged)?;
        let (stored_number, content) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        let is_whole = xxh3_64(whole) == u64::from_le_bytes(*checksum)
            && u64::from_le_bytes(*stored_number) == number;
        if !is_whole {
            return Err(damaged());
        }
        Ok(CatalogPart { epoch: u64::from_le_bytes(*epoch), number, content: content.to_vec() })
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::io::MemoryIo;

    fn part(epoch: u64, number: u64) -> CatalogPart {
        let content = format!("part {number} of {epoch}").into_bytes();
        CatalogPart { epoch, number, content }
    }

    fn names(io: &MemoryIo) -> Vec<String> {
        let paths = io.list(Path::new("/data/catalog")).unwrap();
        paths
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().replace("000000000", ""))
            .collect()
    }

    #[test]
    fn records_follow_a_base_and_a_base_takes_the_place_of_all() {
        let io = MemoryIo::new();
        let directory = CatalogDirectory::new(&io, Path::new("/data"));
        assert_eq!(directory.read(), Ok(None));
        assert!(directory.store_record(&part(1, 1)).unwrap_err().contains("follow none"));
        directory.store_base(&part(1, 3)).unwrap();
        directory.store_record(&part(1, 4)).unwrap();
        directory.store_record(&part(2, 5)).unwrap();
        for number in [0, 4, 5, 7, u64::MAX] {
            directory.store_record(&part(2, number)).unwrap_err();
        }
        let copy = directory.read().unwrap().unwrap();
        assert_eq!(copy.base, part(1, 3));
        assert_eq!(copy.records, [part(1, 4), part(2, 5)]);
        assert_eq!(copy.last(), (2, 5));
        directory.store_base(&part(2, 5)).unwrap();
        assert_eq!(names(&io), ["base-05"]);
        // A leader with another, shorter history.
        directory.store_record(&part(2, 6)).unwrap();
        directory.store_base(&part(3, 4)).unwrap();
        let copy = directory.read().unwrap().unwrap();
        assert_eq!((copy.base, copy.records), (part(3, 4), vec![]));
    }

    #[test]
    fn every_flipped_bit_is_found_and_what_is_missing() {
        let io = MemoryIo::new();
        let directory = CatalogDirectory::new(&io, Path::new("/data"));
        directory.store_base(&part(1, 3)).unwrap();
        for number in 4..7 {
            directory.store_record(&part(1, number)).unwrap();
        }
        let path = |name: &str| PathBuf::from(format!("/data/catalog/{name}"));
        let base = path(&format!("base-{:020}", 3));
        let record = |number: u64| path(&format!("record-{number:020}"));
        for path in [&base, &record(5), &record(6)] {
            let whole = io.contents(path).unwrap();
            let damaged = format!("{} is damaged", path.display());
            for bit in 0..whole.len() * 8 {
                let mut flipped = whole.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                write_file_whole(&io, path, [flipped.as_slice()]).unwrap();
                assert_eq!(directory.read().unwrap_err(), damaged, "bit {bit}");
                assert_eq!(directory.last_number(), Ok(Some(6)));
            }
            for end in 0..whole.len() {
                write_file_whole(&io, path, [&whole[..end]]).unwrap();
                assert!(directory.read().is_err(), "cut at {end}");
            }
            write_file_whole(&io, path, [whole.as_slice()]).unwrap();
        }
        assert!(directory.read().unwrap().is_some());
        io.remove(&record(5)).unwrap();
        assert!(directory.read().unwrap_err().contains("record 5 is missing"));
    }
}

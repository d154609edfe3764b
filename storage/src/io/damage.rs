//! Which files of a disk are known to be damaged.
//!
//! A file is damaged from the moment at which anybody read something else than was written, until it
//! is replaced or removed. What is known is lost with the process: whoever reads the file next, or
//! looks through all of them, finds out again.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::verify::Place;

/// Files that were damaged and are not any more, of which is kept what was wrong with them.
const HEALED_MAX: usize = 64;

/// A file with a damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedFile {
    /// The file.
    pub path: PathBuf,
    /// The part of it that was read first.
    pub place: Place,
    /// What does not fit.
    pub reason: String,
}

/// The damaged files of a disk.
#[derive(Debug, Default)]
pub(super) struct Damages {
    files: BTreeMap<PathBuf, DamagedFile>,
    healed: VecDeque<DamagedFile>,
    /// How often anything here has changed.
    changes: u64,
}

impl Damages {
    /// Takes note of an error, if it says that the bytes of a file are not what was written, or that
    /// the disk does not give them.
    pub(super) fn note(&mut self, error: &Error) {
        let Some(damage) = damage_of(error) else { return };
        if !self.files.contains_key(&damage.path) {
            self.changes += 1;
            self.files.insert(damage.path.clone(), damage);
        }
    }

    /// The file is there no more.
    pub(super) fn removed(&mut self, path: &Path) {
        self.changes += u64::from(self.files.remove(path).is_some());
    }

    /// Another file has taken the place of this one.
    pub(super) fn replaced(&mut self, path: &Path) {
        if let Some(damage) = self.files.remove(path) {
            self.changes += 1;
            self.healed.push_back(damage);
            if self.healed.len() > HEALED_MAX {
                self.healed.pop_front();
            }
        }
    }

    pub(super) fn contains(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Those that are damaged, and the last ones that were.
    pub(super) fn lists(&self) -> (Vec<DamagedFile>, Vec<DamagedFile>) {
        (self.files.values().cloned().collect(), self.healed.iter().cloned().collect())
    }
}

fn damage_of(error: &Error) -> Option<DamagedFile> {
    match error {
        Error::Corrupt { path, place, reason } => {
            Some(DamagedFile { path: path.clone(), place: *place, reason: reason.clone() })
        }
        // Other errors of the system are not about these bytes: too many open files, no such file.
        Error::Io { action: "open" | "read", path, source }
            if source.raw_os_error() == Some(libc::EIO) =>
        {
            let reason = source.to_string();
            Some(DamagedFile { path: path.clone(), place: Place::File, reason })
        }
        Error::Io { .. } | Error::SyncFailed { .. } | Error::SchemaMismatch(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corrupt(path: &str, reason: &str) -> Error {
        Error::Corrupt { path: path.into(), place: Place::Footer, reason: reason.into() }
    }

    fn failed(action: &'static str, number: i32) -> Error {
        let source = std::io::Error::from_raw_os_error(number);
        Error::Io { action, path: format!("/data/{action}").into(), source }
    }

    #[test]
    fn a_file_is_damaged_until_it_is_replaced_or_removed() {
        let mut damages = Damages::default();
        damages.note(&corrupt("/data/1", "first"));
        damages.note(&corrupt("/data/1", "second"));
        damages.note(&corrupt("/data/2", "other"));
        assert_eq!(damages.changes(), 2);
        let (now, healed) = damages.lists();
        let reasons: Vec<&str> = now.iter().map(|damage| damage.reason.as_str()).collect();
        assert_eq!((reasons, healed.len()), (vec!["first", "other"], 0));
        damages.replaced(Path::new("/data/1"));
        damages.removed(Path::new("/data/2"));
        damages.removed(Path::new("/data/3"));
        damages.replaced(Path::new("/data/3"));
        assert_eq!(damages.changes(), 4);
        let (now, healed) = damages.lists();
        assert_eq!((now.len(), healed.len(), healed[0].reason.as_str()), (0, 1, "first"));
        // It can be damaged again.
        damages.note(&corrupt("/data/1", "third"));
        assert!(damages.contains(Path::new("/data/1")));
    }

    #[test]
    fn only_what_is_wrong_with_the_bytes_is_a_damage() {
        let mut damages = Damages::default();
        for number in [libc::ENOENT, libc::EMFILE, libc::EACCES] {
            damages.note(&failed("open", number));
            damages.note(&failed("read", number));
        }
        damages.note(&failed("remove", libc::EIO));
        damages.note(&Error::SchemaMismatch("a defect".into()));
        assert_eq!(damages.changes(), 0);
        for action in ["open", "read"] {
            damages.note(&failed(action, libc::EIO));
            assert!(damages.contains(&Path::new("/data").join(action)));
        }
    }

    #[test]
    fn what_is_kept_of_healed_files_has_an_end() {
        let mut damages = Damages::default();
        for file in 0..200 {
            let path = format!("/data/{file}");
            damages.note(&corrupt(&path, "bit"));
            damages.replaced(Path::new(&path));
        }
        let (now, healed) = damages.lists();
        assert_eq!((now.len(), healed.len()), (0, HEALED_MAX));
        assert_eq!(healed.last().unwrap().path, Path::new("/data/199"));
    }
}

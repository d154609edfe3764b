//! Which cluster a node belongs to and which leader was the last to open it: kept on disk, so that
//! neither a restart nor a leader with another catalog can have it remove what is not theirs.

use std::path::{Path, PathBuf};

use storage::io::{Io, write_file_whole};
use xxhash_rust::xxh3::xxh3_64;

/// The name of the file in the node's data directory.
const FILE: &str = "membership";

/// Whether what a node remembers can be read, in the data directory of a node that no process runs
/// on. It is sound too if no leader has opened the node yet.
///
/// # Errors
/// Says what is wrong, and in which file.
pub fn check_membership(io: &dyn Io, data_dir: &Path) -> Result<(), String> {
    Membership::read(io, data_dir).map(drop)
}

/// What a node remembers over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Membership {
    /// Drawn when the catalog of the cluster was made.
    pub(super) cluster: u64,
    /// The highest epoch of a leader that has opened the node.
    pub(super) epoch: u64,
}

impl Membership {
    /// What the data directory says; `None` if no leader has opened the node yet. A file that
    /// cannot be read is an error: nothing may be removed then.
    pub(super) fn read(io: &dyn Io, data_dir: &Path) -> Result<Option<Self>, String> {
        let path = path(data_dir);
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let Some(length) = io.len(&path).map_err(|error| failed(&error))? else { return Ok(None) };
        let length = usize::try_from(length).map_err(|error| failed(&error))?;
        let mut bytes = vec![0; length];
        io.read_at(&path, 0, &mut bytes).map_err(|error| failed(&error))?;
        let text = std::str::from_utf8(&bytes).map_err(|error| failed(&error))?;
        match Self::parse(text) {
            Some(membership) => Ok(Some(membership)),
            None => Err(failed(&"it does not name a cluster and an epoch, or is damaged")),
        }
    }

    /// Makes it durable.
    pub(super) fn write(self, io: &dyn Io, data_dir: &Path) -> Result<(), String> {
        let text = self.to_text();
        write_file_whole(io, &path(data_dir), [text.as_bytes()]).map_err(|error| error.to_string())
    }

    fn to_text(self) -> String {
        let text = self.words();
        format!("{text}checksum {:016x}\n", xxh3_64(text.as_bytes()))
    }

    fn words(self) -> String {
        format!("cluster {:016x}\nepoch {}\n", self.cluster, self.epoch)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let cluster = lines.next()?.strip_prefix("cluster ")?;
        let epoch = lines.next()?.strip_prefix("epoch ")?;
        let membership =
            Self { cluster: u64::from_str_radix(cluster, 16).ok()?, epoch: epoch.parse().ok()? };
        // Earlier servers wrote no checksum.
        (membership.to_text() == text || membership.words() == text).then_some(membership)
    }
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

#[cfg(test)]
mod tests {
    use storage::io::MemoryIo;

    use super::*;

    #[test]
    fn every_flipped_bit_is_found() {
        let (io, directory) = (MemoryIo::new(), Path::new("/node"));
        io.create_directory(directory).unwrap();
        let membership = Membership { cluster: 0xfeed, epoch: 12 };
        membership.write(&io, directory).unwrap();
        assert_eq!(Membership::read(&io, directory), Ok(Some(membership)));
        let bits = io.contents(&path(directory)).unwrap().len() * 8;
        for bit in 0..bits {
            let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
            io.damage(&path(directory), flip).unwrap();
            assert!(Membership::read(&io, directory).is_err(), "bit {bit}");
            io.damage(&path(directory), flip).unwrap();
        }
    }

    #[test]
    fn a_file_of_an_earlier_server_is_read() {
        let text = "cluster 00000000000000ff\nepoch 3\n";
        assert_eq!(Membership::parse(text), Some(Membership { cluster: 255, epoch: 3 }));
    }
}

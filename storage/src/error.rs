//! Everything that can go wrong in storage, and who must act.

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::verify::Place;

/// The result of a storage call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused or failed; the operator acts.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: "read", "write", "sync".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The operating system could not make data or names durable. What is on disk is unknown, and a
    /// second sync would report a success that it cannot know of: nothing is retried, the file is
    /// given up, and the node fences itself: it acknowledges no write until it was started again.
    #[error("cannot make {} durable", path.display())]
    SyncFailed {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Bytes on disk are not what was written: a checksum, an offset or a width is wrong. The
    /// operator restores the file; nothing of it was decoded.
    #[error("file {} is damaged at {place}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Which part.
        place: Place,
        /// What does not fit.
        reason: String,
    },
    /// A batch handed to a writer does not fit the table's schema: a defect of the caller.
    #[error("batch does not fit the table: {0}")]
    SchemaMismatch(String),
}

impl Error {
    /// Whether a disk or a quota is full: the statement fails, the node goes on, and the next try
    /// may succeed. A sync that failed for want of space is not counted here: it fences the node.
    pub fn is_storage_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
            }
            Self::SyncFailed { .. } | Self::Corrupt { .. } | Self::SchemaMismatch(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_errors() {
        let io = |number| Error::Io {
            action: "write",
            path: "/data/1".into(),
            source: std::io::Error::from_raw_os_error(number),
        };
        assert!(io(libc::ENOSPC).is_storage_full());
        assert!(io(libc::EDQUOT).is_storage_full());
        assert!(!io(libc::EIO).is_storage_full());
        let source = std::io::Error::from_raw_os_error(libc::ENOSPC);
        assert!(!Error::SyncFailed { path: "/data/1".into(), source }.is_storage_full());
    }
}

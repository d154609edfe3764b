//! Everything that can go wrong in storage, and who must act.

use std::path::PathBuf;

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
    /// Bytes on disk are not what was written: a checksum, an offset or a width is wrong. The
    /// operator restores the file; nothing of it was decoded.
    #[error("segment {} is damaged at {place}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Which part: "footer", "column 3, row group 7".
        place: String,
        /// What does not fit.
        reason: String,
    },
    /// A batch handed to a writer does not fit the table's schema: a defect of the caller.
    #[error("batch does not fit the table: {0}")]
    SchemaMismatch(String),
}

//! What is known of the soundness of a node's files, and what a node does to find out.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use storage::ids::{ColumnId, SegmentId, SliceId, TableId};

/// What time it is, microseconds since 1970.
pub type ClockUs = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What a node does to find damage before a query meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntegrityConfig {
    /// How fast the scrubber reads; `None` if there is none.
    pub scrub_bytes_per_second: Option<NonZeroU64>,
    /// From the end of one pass over all files to the next.
    pub scrub_interval: Duration,
    /// Of a hundred files that are written, how many are read back before a commit may name them.
    pub verify_writes_percent: u8,
}

impl Default for IntegrityConfig {
    fn default() -> Self {
        Self {
            scrub_bytes_per_second: NonZeroU64::new(8 << 20),
            scrub_interval: Duration::from_secs(24 * 60 * 60),
            verify_writes_percent: 2,
        }
    }
}

/// How far the scrubber is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScrubStatus {
    /// How many passes have begun.
    pub passes: u64,
    /// Whether one is at work.
    pub is_running: bool,
    /// Files that the last pass has checked so far.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// When it began, microseconds since 1970.
    pub began_us: Option<i64>,
    /// When the last pass that came to its end did.
    pub ended_us: Option<i64>,
    /// Files that were read back after they were written.
    pub writes_verified: u64,
}

/// A file of a table that is damaged, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The table.
    pub table: TableId,
    /// The slice.
    pub slice: SliceId,
    /// The number of the file ([`crate::StoredFile::number`]).
    pub number: SegmentId,
    /// Where it is on its node.
    pub path: String,
    /// The column in which the damage was met, if it was in one.
    pub column: Option<ColumnId>,
    /// Which part of the file.
    pub place: String,
    /// What does not fit.
    pub reason: String,
    /// Whether a sound copy has taken its place.
    pub is_healed: bool,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IntegrityStatus {
    /// The scrubber.
    pub scrub: ScrubStatus,
    /// The files that are damaged, and the last ones that were.
    pub damages: Vec<Damage>,
}

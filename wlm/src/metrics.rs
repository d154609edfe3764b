//! What running queries report about themselves. Figures are totals over slices, unless their
//! name ends in `_max`: then they are those of the slice that has most.

use std::time::Duration;

/// A query's figures so far, or at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryMetrics {
    /// Slices that work on the query.
    pub slices: u32,
    /// Memory in use now, on the fullest node.
    pub memory_bytes: u64,
    /// The most memory in use so far, on the fullest node.
    pub memory_bytes_peak: u64,
    /// The query as a whole.
    pub total: Work,
    /// Rows read from external tables.
    pub spectrum_rows: u64,
    /// Megabytes read from external tables.
    pub spectrum_mb: u64,
    /// Its execution segments.
    pub segments: Vec<SegmentMetrics>,
}

/// Work done, by a query or one of its segments. Blocks have 1 MB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// CPU time.
    pub cpu_time: Duration,
    /// CPU time of the busiest slice.
    pub cpu_time_max: Duration,
    /// Blocks read.
    pub blocks_read: u64,
    /// Blocks read by the slice that read most.
    pub blocks_read_max: u64,
    /// Temporary blocks written to disk.
    pub temp_blocks: u64,
    /// Temporary blocks of the slice that wrote most.
    pub temp_blocks_max: u64,
    /// Run time, summed over slices.
    pub run_time: Duration,
    /// Run time of the slice that ran longest.
    pub run_time_max: Duration,
}

/// An execution segment: a part of the plan that runs as one pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SegmentMetrics {
    /// Its number in the query.
    pub segment: u32,
    /// What it has done.
    pub work: Work,
    /// Its steps.
    pub steps: Vec<StepMetrics>,
}

/// A step of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepMetrics {
    /// Its number in the segment.
    pub step: u32,
    /// What it does.
    pub kind: StepKind,
    /// Rows processed. Of a scan: rows before deleted rows and conditions are taken out.
    pub rows: u64,
    /// Rows of the slice that processed most.
    pub rows_max: u64,
}

/// What a step does. The numbers are those of `stv_query_metrics.step_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum StepKind {
    /// Reads a table.
    Scan = 1,
    /// Writes to a table.
    Insert = 2,
    /// Aggregates.
    Aggregate = 3,
    /// Sorts.
    Sort = 6,
    /// Merges sorted inputs.
    Merge = 7,
    /// Redistributes rows.
    Distribute = 8,
    /// Sends all rows everywhere.
    Broadcast = 9,
    /// Joins by hash.
    HashJoin = 10,
    /// Joins sorted inputs.
    MergeJoin = 11,
    /// Keeps rows for a later segment.
    Save = 12,
    /// Builds a hash table.
    Hash = 14,
    /// Joins without a condition on equality.
    NestedLoop = 15,
    /// Computes expressions.
    Project = 16,
    /// Stops after some rows.
    Limit = 17,
    /// Removes duplicates.
    Unique = 18,
    /// Deletes rows.
    Delete = 20,
    /// Sorts and keeps the first rows.
    SortLimit = 26,
    /// Window functions.
    Window = 29,
    /// User-defined functions.
    Udf = 32,
    /// Returns rows from the leader to the client.
    ReturnToClient = 37,
    /// Returns rows from a node to the leader.
    ReturnToLeader = 38,
    /// Reads an external table.
    SpectrumScan = 40,
}

impl StepKind {
    /// The number in system tables.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// Whether the step joins.
    pub(crate) fn is_join(self) -> bool {
        matches!(self, Self::HashJoin | Self::MergeJoin | Self::NestedLoop)
    }

    /// The name in system tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Insert => "insert",
            Self::Aggregate => "aggr",
            Self::Sort => "sort",
            Self::Merge => "merge",
            Self::Distribute => "dist",
            Self::Broadcast => "bcast",
            Self::HashJoin => "hjoin",
            Self::MergeJoin => "mjoin",
            Self::Save => "save",
            Self::Hash => "hash",
            Self::NestedLoop => "nloop",
            Self::Project => "project",
            Self::Limit => "limit",
            Self::Unique => "unique",
            Self::Delete => "delete",
            Self::SortLimit => "sortlimit",
            Self::Window => "window",
            Self::Udf => "UDF",
            Self::ReturnToClient | Self::ReturnToLeader => "return",
            Self::SpectrumScan => "spectrum scan",
        }
    }
}

impl Work {
    /// How much more CPU the busiest slice used than the average one, in hundredths. 0 if nothing
    /// was used.
    pub(crate) fn cpu_skew_hundredths(&self, slices: u32) -> u64 {
        skew(self.cpu_time_max.as_micros(), self.cpu_time.as_micros(), slices)
    }

    /// How many more blocks the slice that read most read than the average one, in hundredths.
    pub(crate) fn io_skew_hundredths(&self, slices: u32) -> u64 {
        skew(u128::from(self.blocks_read_max), u128::from(self.blocks_read), slices)
    }
}

fn skew(max: u128, total: u128, slices: u32) -> u64 {
    (max * u128::from(slices) * 100)
        .checked_div(total)
        .map_or(0, |skew| u64::try_from(skew).unwrap_or(u64::MAX))
}

impl QueryMetrics {
    /// All steps of all segments.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &StepMetrics> {
        self.segments.iter().flat_map(|segment| &segment.steps)
    }

    /// The most rows that a step of some kind has processed.
    pub(crate) fn rows_of(&self, wanted: impl Fn(StepKind) -> bool) -> u64 {
        self.steps().filter(|step| wanted(step.kind)).map(|step| step.rows).max().unwrap_or(0)
    }
}

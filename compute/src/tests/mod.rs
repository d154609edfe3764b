//! Tests of the node as a whole: segments in memory, DataFusion above them. What is expected comes
//! from DataFusion's own in-memory tables over the same rows.

mod deletions;
pub(crate) mod fixture;
mod joins;
mod panics;
mod placement;
mod scans;
mod sorts;
mod stops;
mod writes;

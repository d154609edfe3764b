//! Tests of the node as a whole: segments in memory, DataFusion above them. What is expected comes
//! from DataFusion's own in-memory tables over the same rows.

mod deletions;
pub(crate) mod fixture;
mod integrity;
mod joins;
mod panics;
mod placement;
mod repartitions;
mod scans;
mod sorts;
mod spilling;
mod stops;
mod writes;

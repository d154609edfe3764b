//! A compute node: runs plans on its slices.
//!
//! Holds no catalog and decides no commit: which segments make up a table is the leader's
//! knowledge, handed over as a [`TableVersion`]. In reading order:
//!
//! * [`placement`]: which row belongs to which slice, and [`layout`]: which slice to which node;
//! * `node`: files, cache, memory and spill space of the node ([`Node`]), and [`profile`]: the kind of
//!   machine that it is on;
//! * `table`: a table version as a query sees it ([`SliceTable`]);
//! * [`plan`]: our nodes in DataFusion's plans, above all the scan;
//! * [`load`]: rows of objects in [`object_storage`], for COPY;
//! * [`row_ids`]: which rows DELETE and UPDATE hit;
//! * `write`: rows of a query or a load, as segments that wait for their commit ([`write_table`]);
//! * [`exchange`]: how nodes execute parts of a plan for the leader and for each other, and
//!   [`codec`]: how our plan nodes get there;
//! * [`query_threads`] and [`cpu_share`]: what of the processors a query gets;
//! * [`service`]: what the leader tells a node beside queries;
//! * [`scrub`]: finds damaged files before queries do, [`integrity`]: what is known of them;
//! * [`inspect`]: the files of a node that no process runs on;
//! * [`error`]: how an error carries its SQLSTATE to the leader.

pub mod codec;
pub mod cpu_share;
pub mod error;
pub mod exchange;
pub mod inspect;
pub mod integrity;
pub mod layout;
pub mod load;
pub mod memory;
pub mod object_storage;
pub mod placement;
pub mod plan;
pub mod profile;
pub mod query_threads;
pub mod row_ids;
pub mod scrub;
pub mod service;

mod compact;
mod grant;
mod merge_share;
mod node;
mod peak_memory;
mod statistics;
mod table;
mod write;

#[cfg(test)]
mod tests;

pub use node::{
    DeletionsOutcome, FileInfo, HeldFile, NewDeletions, Node, NodeConfig, RewriteGoal,
    RewriteRequest, RewrittenSegments, StoredFile, dropped_bytes, is_more_than_the_rest,
};
pub use peak_memory::PeakMemory;
pub use table::{Deletions, Distribution, Home, ROW_ID_COLUMN, SliceTable, TableVersion};
pub use write::{WriteOutcome, WriteTarget, write_streams, write_table};

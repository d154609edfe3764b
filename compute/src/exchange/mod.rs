//! How nodes execute parts of a plan for the leader and for each other.
//!
//! The stages of a query and the plans that are sent are `datafusion-distributed`'s; how bytes
//! travel is ours:
//!
//! ```text
//! leader --Task--> node      the plan of one task; open as long as the query lives
//! anyone --Rows--> node      one partition of a task: schema, batches, end frame
//! leader --Control, Copy--> node, node --File--> node   see [`crate::service`]
//! ```
//!
//! Invariants:
//! * a stream of rows ends with a frame that says how many rows and batches it had; a stream without
//!   it, or with a wrong one, is an error at its receiver ([`frames`]);
//! * each partition is a stream of its own with its own flow control, so that a partition that is
//!   not read never keeps another from flowing;
//! * when the channel of a task closes, for whatever reason, its leaves stop
//!   ([`crate::plan::cancel`]);
//! * TLS with a certificate of the cluster on both sides; before that no byte is looked at ([`tls`]).

mod channel;
mod failure;
mod frames;
mod measured;
pub(crate) mod messages;
mod query_watch;
mod rpc;
mod server;
mod session;
mod tasks;
mod tls;

pub use channel::NodeChannels;
pub use measured::{BYTES_RECEIVED, QUERY_MEMORY, QUERY_MEMORY_PEAK};
pub use query_watch::QueryWatch;
pub use server::{NodeServer, ServerParts};
pub use session::configure;
pub(crate) use tasks::Tasks;
pub use tls::{Identity, SERVER_NAME};

/// The header in which the leader sends its epoch with every task.
pub const EPOCH_HEADER: &str = "x-blueshift-epoch";

/// The header in which the leader sends with every task how many bytes its query may use on a node.
pub const MEMORY_HEADER: &str = "x-blueshift-memory-bytes";

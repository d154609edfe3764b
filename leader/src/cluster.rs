//! The compute nodes: which there are, who is alive, what each still has to be told, and which has a
//! copy of what.
//!
//! A [`Cluster`] is one node in this process, or several processes. Of several, this module knows the
//! state: a watch per node asks it twice a second, opens it when it has (re)started, and delivers
//! removals that wait for it (`watch`). What a node should hold is the catalog's knowledge; what it
//! does hold it is asked, and gets what it lacks from others (`copies`, `rebuild`). A statement that
//! loses a node is run again on those that are left (`attempts`).

mod attempts;
mod catalog_copies;
mod copies;
mod deletions;
mod node_set;
mod piece;
mod rebuild;
mod rewrite;
mod watch;
mod write;

#[cfg(test)]
mod tests;

pub mod certificates;
pub mod compute_process;
pub(crate) mod epoch;
pub mod restore;
pub mod supervisor;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use compute::layout::Layout;
use compute::{Home, NewDeletions, Node, StoredFile};
use datafusion::execution::runtime_env::RuntimeEnv;
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{SliceId, TableId};

use crate::error::Result;
use crate::transaction::garbage::SegmentFiles;

pub(crate) use attempts::{Attempts, final_error};
pub(crate) use copies::{Known, Wanted};
pub use copies::{NodeState, SliceStatus};
pub use node_set::{NodeSet, NodeSetParts};
pub(crate) use piece::{Piece, WeakPiece};
pub(crate) use rewrite::{NewSegments, rewrite};
pub(crate) use watch::CatchUp;
pub(crate) use write::{Replaced, delete, replace, write, write_repeatedly};

/// Where tables live.
#[derive(Debug, Clone)]
pub enum Cluster {
    /// One node, in this process.
    Alone(Arc<Node>),
    /// Several nodes, processes of their own.
    Nodes(Arc<NodeSet>),
}

impl Cluster {
    /// How slices are divided among nodes.
    pub fn layout(&self) -> Layout {
        match self {
            Self::Alone(node) => node.layout(),
            Self::Nodes(nodes) => nodes.layout(),
        }
    }

    /// Where scans of a plan run.
    pub fn home(&self) -> Home {
        match self {
            Self::Alone(node) => Home::Node(Arc::clone(node)),
            Self::Nodes(nodes) => Home::Cluster(nodes.layout()),
        }
    }

    /// Memory and spill space of what this process executes.
    pub fn runtime_env(&self) -> Arc<RuntimeEnv> {
        match self {
            Self::Alone(node) => node.runtime_env(),
            Self::Nodes(nodes) => nodes.runtime_env(),
        }
    }
}

/// The files of all nodes, as the transaction manager removes them.
#[derive(Debug)]
pub struct ClusterFiles(pub Cluster);

#[async_trait]
impl SegmentFiles for ClusterFiles {
    fn remove(&self, table: TableId, slice: SliceId, file: StoredFile) {
        match &self.0 {
            Cluster::Alone(node) => {
                if let Err(error) = node.remove_stored(table, [(slice, file)]) {
                    tracing::warn!(table = table.0, slice = slice.0, ?file, %error,
                        "could not remove a file of a table; the next start removes it");
                }
            }
            Cluster::Nodes(nodes) => nodes.remove_stored(table, slice, file),
        }
    }

    async fn write_deletions(
        &self,
        table: TableId,
        new: Vec<NewDeletions>,
        everywhere: bool,
        spare: Range<u64>,
    ) -> Result<Option<Vec<Arc<DeletionVectorInfo>>>> {
        match &self.0 {
            Cluster::Alone(node) => deletions::write_here(node, table, new).await,
            Cluster::Nodes(nodes) => {
                deletions::write_on_nodes(nodes, table, new, everywhere, spare).await
            }
        }
    }

    fn attempts(&self) -> u64 {
        match &self.0 {
            Cluster::Alone(_) => 1,
            Cluster::Nodes(_) => attempts::ATTEMPTS_MAX as u64,
        }
    }

    fn are_here(&self) -> bool {
        matches!(self.0, Cluster::Alone(_))
    }

    fn are_unsynced(&self) -> bool {
        match &self.0 {
            Cluster::Alone(node) => node.failed_sync().is_some(),
            Cluster::Nodes(_) => false,
        }
    }
}

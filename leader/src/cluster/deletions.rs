//! Deletion vectors, written where their segments are.

use std::sync::Arc;

use compute::{DeletionsOutcome, NewDeletions, Node, StoredFile};
use datafusion::common::runtime::JoinSet;
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{SliceId, TableId};

use super::NodeSet;
use crate::error::{Error, Result};

/// Removes the vectors of a write that came to nothing.
struct Written {
    node: Arc<Node>,
    table: TableId,
    files: Vec<(SliceId, StoredFile)>,
}

impl Drop for Written {
    fn drop(&mut self) {
        let files = std::mem::take(&mut self.files);
        if let Err(error) = self.node.remove_stored(self.table, files) {
            tracing::warn!(%error, "cannot remove deletion vectors; the next start removes them");
        }
    }
}

/// Writes vectors of the one node, which is in this process.
pub(super) async fn write_here(
    node: &Arc<Node>,
    table: TableId,
    new: Vec<NewDeletions>,
) -> Result<Option<Vec<DeletionVectorInfo>>> {
    let node = Arc::clone(node);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let mut written = Written { node: Arc::clone(&node), table, files: Vec::new() };
        let result = write_all(&node, table, &new, &mut written.files);
        let is_complete = matches!(result, Ok(Some(_)));
        if sender.send(result).is_ok() && is_complete {
            written.files.clear();
        }
    });
    let lost = |_| Error::Internal("a write of deletion vectors did not end".into());
    receiver.await.map_err(lost)?
}

fn write_all(
    node: &Node,
    table: TableId,
    new: &[NewDeletions],
    files: &mut Vec<(SliceId, StoredFile)>,
) -> Result<Option<Vec<DeletionVectorInfo>>> {
    let mut infos = Vec::with_capacity(new.len());
    for new in new {
        match node.write_deletions(table, new)? {
            DeletionsOutcome::Written(info) => {
                files.push((new.slice, StoredFile::DeletionVector(info.segment, info.id)));
                infos.push(info);
            }
            DeletionsOutcome::Conflict => return Ok(None),
        }
    }
    Ok(Some(infos))
}

/// Has each node write the vectors of its slices.
pub(super) async fn write_on_nodes(
    nodes: &Arc<NodeSet>,
    table: TableId,
    new: Vec<NewDeletions>,
) -> Result<Option<Vec<DeletionVectorInfo>>> {
    let ids = new.iter().map(|new| new.id.0);
    let (Some(first), Some(last)) = (ids.clone().min(), ids.max()) else {
        return Ok(Some(Vec::new()));
    };
    let ids = first..last + 1;
    let mut undo = nodes.undo(table, ids);
    let mut of_node: Vec<Vec<(usize, NewDeletions)>> = vec![Vec::new(); nodes.layout().nodes()];
    let count = new.len();
    for (position, new) in new.into_iter().enumerate() {
        of_node[nodes.layout().node_of(new.slice.0 as usize)].push((position, new));
    }
    let mut calls = JoinSet::new();
    for (node, new) in of_node.into_iter().enumerate().filter(|(_, new)| !new.is_empty()) {
        let client = nodes.client(node);
        calls.spawn(async move {
            let (positions, new): (Vec<usize>, Vec<NewDeletions>) = new.into_iter().unzip();
            (positions, client.write_deletions(table, &new).await)
        });
    }
    let mut infos: Vec<Option<DeletionVectorInfo>> = vec![None; count];
    while let Some(call) = calls.join_next().await {
        let (positions, written) =
            call.map_err(|error| Error::Internal(format!("a call did not end: {error}")))?;
        let Some(written) = written? else { return Ok(None) };
        for (position, info) in positions.into_iter().zip(written) {
            infos[position] = Some(info);
        }
    }
    let infos: Option<Vec<DeletionVectorInfo>> = infos.into_iter().collect();
    let infos = infos.ok_or_else(|| Error::Internal("a deletion vector is missing".into()))?;
    undo.keep();
    Ok(Some(infos))
}

//! Deletion vectors, written where their segments are, and copied where copies of these are, before
//! they are anybody's.

use std::ops::Range;
use std::sync::Arc;

use compute::{DeletionsOutcome, FileInfo, NewDeletions, Node, StoredFile};
use datafusion::common::runtime::{JoinSet, SpawnedTask};
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{DeletionVectorId, SegmentId, SliceId, TableId};

use super::attempts::{Attempts, final_error, from_node};
use super::copies::Acknowledged;
use super::{Cluster, NodeSet, Piece, write};
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
) -> Result<Option<Vec<Arc<DeletionVectorInfo>>>> {
    let node = Arc::clone(node);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // Once begun it runs to its end, and removes what nobody waits for any more.
    let _task = SpawnedTask::spawn_blocking(move || {
        let mut written = Written { node: Arc::clone(&node), table, files: Vec::new() };
        let result = write_all(&node, table, &new, &mut written.files);
        let written = matches!(result, Ok(Some(_))).then_some(written);
        // Whoever waits no longer leaves it unread, and with it the files go.
        let _ = sender.send((result, written));
    });
    let lost = |_| Error::Internal("a write of deletion vectors did not end".into());
    let (result, written) = receiver.await.map_err(lost)?;
    if let Some(mut written) = written {
        written.files.clear();
    }
    let written = result?;
    Ok(written.map(|infos| infos.into_iter().map(Arc::new).collect()))
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

/// Has the nodes write vectors, each those of the slices that it serves, and those that shall have
/// copies copy them. An attempt that loses a node is followed by another, with the next ids of `spare`.
pub(super) async fn write_on_nodes(
    nodes: &Arc<NodeSet>,
    table: TableId,
    mut new: Vec<NewDeletions>,
    everywhere: bool,
    spare: Range<u64>,
) -> Result<Option<Vec<Arc<DeletionVectorInfo>>>> {
    let mut spare = spare.map(DeletionVectorId);
    let mut attempts = Attempts::new(&Cluster::Nodes(Arc::clone(nodes)));
    loop {
        let error = match attempt(nodes, table, &new, everywhere).await {
            Ok(written) => return Ok(written),
            Err(error) => error,
        };
        if !attempts.again(&error).await {
            return Err(final_error(error, false));
        }
        for (vector, id) in new.iter_mut().zip(spare.by_ref()) {
            vector.id = id;
        }
    }
}

async fn attempt(
    nodes: &Arc<NodeSet>,
    table: TableId,
    new: &[NewDeletions],
    everywhere: bool,
) -> Result<Option<Vec<Arc<DeletionVectorInfo>>>> {
    let ids = new.iter().map(|new| new.id.0);
    let (Some(first), Some(last)) = (ids.clone().min(), ids.max()) else {
        return Ok(Some(Vec::new()));
    };
    let generations = nodes.copies().generations();
    let mut undo = nodes.undo(table, first..last + 1);
    let mut of_node: Vec<Vec<(usize, NewDeletions)>> = vec![Vec::new(); nodes.layout().nodes()];
    for (position, new) in new.iter().enumerate() {
        of_node[nodes.server_of(new.slice)?].push((position, new.clone()));
    }
    let mut calls = JoinSet::new();
    for (node, new) in of_node.into_iter().enumerate().filter(|(_, new)| !new.is_empty()) {
        let client = nodes.client(node);
        calls.spawn(async move {
            let (positions, new): (Vec<usize>, Vec<NewDeletions>) = new.into_iter().unzip();
            (node, positions, client.write_deletions(table, &new).await)
        });
    }
    let mut acknowledged = Acknowledged::new();
    let mut infos: Vec<Option<Arc<DeletionVectorInfo>>> = vec![None; new.len()];
    while let Some(call) = calls.join_next().await {
        let (node, positions, written) =
            call.map_err(|error| Error::Internal(format!("a call did not end: {error}")))?;
        let Some(written) = written.map_err(from_node)? else { return Ok(None) };
        for (position, info) in positions.into_iter().zip(written) {
            acknowledged.insert(SegmentId(info.id.0), vec![(node, generations[node])]);
            infos[position] = Some(Arc::new(info));
        }
    }
    let infos: Option<Vec<Arc<DeletionVectorInfo>>> = infos.into_iter().collect();
    let infos = infos.ok_or_else(|| Error::Internal("a deletion vector is missing".into()))?;
    let piece = |(new, info): (&NewDeletions, &Arc<DeletionVectorInfo>)| Piece {
        table,
        slice: new.slice,
        everywhere,
        file: FileInfo::Deletions(Arc::clone(info)),
    };
    let pieces: Vec<Piece> = new.iter().zip(&infos).map(piece).collect();
    write::copy(nodes, &pieces, acknowledged).await?;
    undo.keep();
    Ok(Some(infos))
}

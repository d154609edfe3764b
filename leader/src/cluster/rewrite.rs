//! VACUUM of a slice in a cluster: the node that serves the slice writes its segments anew, those that
//! shall have copies copy them, and only then the segments are anybody's.

use std::sync::Arc;

use compute::{FileInfo, RewriteRequest, RewrittenSegments, TableVersion};
use storage::ids::SegmentId;
use storage::statistics::SegmentInfo;

use super::attempts::{Attempts, final_error, from_node};
use super::copies::Acknowledged;
use super::{Cluster, NodeSet, Piece, write};
use crate::catalog::{DistributionStyle, TableEntry};
use crate::engine::Engine;
use crate::error::Result;

/// Segments that others can take the place of, durable and with their copies.
#[derive(Debug)]
pub(crate) struct NewSegments {
    /// The segments that were read.
    pub(crate) sources: Vec<SegmentId>,
    /// Segments with all their live rows.
    pub(crate) segments: Vec<Arc<SegmentInfo>>,
}

impl From<RewrittenSegments> for NewSegments {
    fn from(rewritten: RewrittenSegments) -> Self {
        let segments = rewritten.segments.into_iter().map(Arc::new).collect();
        Self { sources: rewritten.sources, segments }
    }
}

/// Has a node rewrite a slice, with other ids at each attempt. If it fails, or is dropped half way,
/// every node is told to remove what it wrote.
pub(crate) async fn rewrite(
    engine: &Arc<Engine>,
    nodes: &Arc<NodeSet>,
    entry: &TableEntry,
    mut request: RewriteRequest,
) -> Result<Vec<NewSegments>> {
    let version = engine.table_version(entry);
    let count = request.ids.end - request.ids.start;
    let mut attempts = Attempts::new(&Cluster::Nodes(Arc::clone(nodes)));
    loop {
        match attempt(nodes, entry, &version, &request).await {
            Ok(rewritten) => return Ok(rewritten),
            Err(error) if attempts.again(&error).await => {}
            Err(error) => return Err(final_error(error, false)),
        }
        let first = engine.transactions.reserve_segment_ids(count).await?;
        request.ids = first.0..first.0 + count;
    }
}

async fn attempt(
    nodes: &Arc<NodeSet>,
    entry: &TableEntry,
    version: &TableVersion,
    request: &RewriteRequest,
) -> Result<Vec<NewSegments>> {
    let generations = nodes.copies().generations();
    let node = nodes.server_of(request.slice)?;
    let mut undo = nodes.undo(request.table, request.ids.clone());
    let rewritten = nodes.client(node).rewrite_slice(version, request).await.map_err(from_node)?;
    let rewritten: Vec<NewSegments> = rewritten.into_iter().map(NewSegments::from).collect();
    let piece = |info: &Arc<SegmentInfo>| Piece {
        table: request.table,
        slice: request.slice,
        everywhere: entry.distribution == DistributionStyle::All,
        file: FileInfo::Segment(Arc::clone(info)),
    };
    let pieces: Vec<Piece> =
        rewritten.iter().flat_map(|group| &group.segments).map(piece).collect();
    let has = |piece: &Piece| (piece.number(), vec![(node, generations[node])]);
    let acknowledged: Acknowledged = pieces.iter().map(has).collect();
    write::copy(nodes, &pieces, acknowledged).await?;
    undo.keep();
    Ok(rewritten)
}

//! The leader's side.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::{DataFusionError, Result as QueryResult};
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{SegmentId, SliceId, TableId};
use url::Url;

use super::catalog_copy::{CatalogCopy, CatalogPart};
use super::messages::{
    AbandonWrite, Action, ControlReply, ControlRequest, CopyFile, CopyRequest, FetchCatalog,
    Heartbeat, HeldFileProto, Inventory, NewDeletionsProto, OpenNode, Part, RemoveSegments,
    RewriteSlice, RewrittenProto, SliceSegment, StoreCatalog, TableSegments, WriteDeletions,
};
use crate::codec::table::DeletionsProto;
use crate::error::{Error, with_sqlstate};
use crate::exchange::NodeChannels;
use crate::integrity::{Damage, IntegrityStatus, ScrubStatus};
use crate::layout::Layout;
use crate::node::{
    FileInfo, HeldFile, NewDeletions, RewriteRequest, RewrittenSegments, StoredFile,
};
use crate::placement;
use crate::table::TableVersion;

/// VACUUM of a slice reads and writes all of it.
const REWRITE_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a node may be silent before it is taken for lost.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long copying may take: a while in any case, and so much for each byte.
const COPY_TIMEOUT: Duration = Duration::from_secs(30);
const COPY_BYTES_PER_SECOND_MIN: u64 = 2 << 20;
/// Opening a node reads its directories.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
/// Fetching a catalog, which may have many megabytes.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// How slowly a node may store a catalog.
const STORE_BYTES_PER_SECOND: u64 = 10 << 20;
/// Writing vectors syncs a file for each.
const WRITE_TIMEOUT: Duration = Duration::from_secs(300);

/// A node as the leader of an epoch speaks to it.
#[derive(Debug, Clone)]
pub struct NodeClient {
    channels: Arc<NodeChannels>,
    url: Url,
    epoch: u64,
}

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alive {
    /// The number that the node drew when it started.
    pub boot: u64,
    /// Grows whenever a file of the node is found to be damaged, is replaced or goes.
    pub damage_changes: u64,
    /// How far its scrubber is.
    pub scrub: ScrubStatus,
}

/// The files of a table that the catalog knows.
#[derive(Debug, Clone)]
pub struct KnownTable {
    /// The table.
    pub table: TableId,
    /// The numbers of its segments and deletion vectors ([`StoredFile::number`]), at least of those
    /// of the node that is told.
    pub segments: Vec<SegmentId>,
}

/// A file that a node shall copy from another.
#[derive(Debug, Clone)]
pub struct CopyItem {
    /// The table.
    pub table: TableId,
    /// The slice that it belongs to.
    pub slice: SliceId,
    /// What the catalog keeps of it.
    pub file: FileInfo,
}

/// What a node is told when it is opened.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// Which node it is.
    pub node: usize,
    /// Of which cluster.
    pub layout: Layout,
    /// What it must keep.
    pub known: Vec<KnownTable>,
    /// The first id that the leader gives out in its epoch.
    pub first_segment: SegmentId,
    /// The cluster's own number, which the node must know or learn.
    pub cluster: u64,
    /// The number of the last write to the leader's catalog: a node with a copy of a later one refuses.
    pub catalog_number: u64,
    /// Memory that the leader gives to queries on each node, bytes in all: a node with much less
    /// refuses.
    pub query_bytes: usize,
}

impl NodeClient {
    /// Speaks to the node at `url`.
    pub fn new(channels: Arc<NodeChannels>, url: Url, epoch: u64) -> Self {
        Self { channels, url, epoch }
    }

    /// Where the node is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Opens the node. Answers with its boot number and how many files it removed.
    pub async fn open(&self, request: OpenRequest) -> Result<(u64, u64), Error> {
        let table = |known: KnownTable| TableSegments {
            table: known.table.0,
            segments: known.segments.iter().map(|segment| segment.0).collect(),
        };
        let open = OpenNode {
            node: request.node as u64,
            nodes: request.layout.nodes() as u64,
            slices_per_node: request.layout.slices_per_node() as u64,
            placement_fingerprint: placement::fingerprint(),
            tables: request.known.into_iter().map(table).collect(),
            first_segment: request.first_segment.0,
            cluster: request.cluster,
            catalog_number: request.catalog_number,
            query_bytes: request.query_bytes as u64,
        };
        let reply = self.ask(Action::Open(open), OPEN_TIMEOUT).await?;
        Ok((reply.boot, reply.removed))
    }

    /// Whether the node is there and still open.
    pub async fn heartbeat(&self) -> Result<Alive, Error> {
        let reply = self.ask(Action::Heartbeat(Heartbeat {}), HEARTBEAT_TIMEOUT).await?;
        let scrub = reply.scrub.map(ScrubStatus::from).unwrap_or_default();
        Ok(Alive { boot: reply.boot, damage_changes: reply.damage_changes, scrub })
    }

    /// The segments and deletion vectors that lie on the node, and what is known of their soundness.
    pub async fn inventory(&self) -> Result<(Vec<HeldFile>, IntegrityStatus), Error> {
        let reply = self.ask(Action::Inventory(Inventory {}), OPEN_TIMEOUT).await?;
        let file = |file: HeldFileProto| HeldFile {
            table: TableId(file.table),
            slice: SliceId(file.slice),
            number: SegmentId(file.number),
            byte_count: file.byte_count,
            is_damaged: file.is_damaged,
        };
        let scrub = reply.scrub.map(ScrubStatus::from).unwrap_or_default();
        let damages = reply.damages.into_iter().map(Damage::from).collect();
        let files = reply.files.into_iter().map(file).collect();
        Ok((files, IntegrityStatus { scrub, damages }))
    }

    /// Has the node copy files from the node at `source`. When it returns, the copies are whole,
    /// checked and durable. A file that is there already is not copied again.
    ///
    /// # Errors
    /// As a query's, with its SQLSTATE: 08006 if one of the nodes is gone, 53100 if the disk is
    /// full. Some of the files may have been copied.
    pub async fn copy_files(&self, source: &Url, items: &[CopyItem]) -> QueryResult<()> {
        let file = |item: &CopyItem| CopyFile::new(item.table, item.slice, &item.file);
        let bytes: u64 = items.iter().map(|item| item.file.byte_count()).sum();
        let request = CopyRequest {
            epoch: self.epoch,
            source: source.to_string(),
            files: items.iter().map(file).collect(),
        };
        let longest = COPY_TIMEOUT + Duration::from_secs(bytes / COPY_BYTES_PER_SECOND_MIN);
        match tokio::time::timeout(longest, self.channels.copy(&self.url, request)).await {
            Ok(copied) => copied.map(|_| ()),
            Err(_) => {
                let node = self.url.authority();
                Err(with_sqlstate("58030", format!("compute node {node} copies too slowly")))
            }
        }
    }

    /// Removes files that no snapshot needs any more.
    pub async fn remove_stored(
        &self,
        table: TableId,
        files: &[(SliceId, StoredFile)],
    ) -> Result<(), Error> {
        let file = |(slice, file): &(SliceId, StoredFile)| SliceSegment::new(*slice, *file);
        let segments = files.iter().map(file).collect();
        let remove = RemoveSegments { table: table.0, segments };
        self.ask(Action::RemoveSegments(remove), ANSWER_TIMEOUT).await?;
        Ok(())
    }

    /// Removes what a write left that was given these segment ids.
    pub async fn abandon_write(&self, table: TableId, ids: Range<u64>) -> Result<(), Error> {
        let abandon =
            AbandonWrite { table: table.0, first_segment: ids.start, end_segment: ids.end };
        self.ask(Action::AbandonWrite(abandon), ANSWER_TIMEOUT).await?;
        Ok(())
    }

    /// Has the node keep what one commit changed in the catalog, durably.
    ///
    /// # Errors
    /// Fails if the node has not the commit before: it needs all of the catalog.
    pub async fn store_catalog_record(&self, number: u64, content: Vec<u8>) -> Result<(), Error> {
        self.store_catalog(number, content, false, ANSWER_TIMEOUT).await
    }

    /// Has the node keep all of the catalog as it was at a commit, durably.
    pub async fn store_catalog_base(&self, number: u64, content: Vec<u8>) -> Result<(), Error> {
        let seconds = content.len() as u64 / STORE_BYTES_PER_SECOND;
        let timeout = ANSWER_TIMEOUT + Duration::from_secs(seconds);
        self.store_catalog(number, content, true, timeout).await
    }

    async fn store_catalog(
        &self,
        number: u64,
        content: Vec<u8>,
        is_base: bool,
        timeout: Duration,
    ) -> Result<(), Error> {
        let part = Some(Part { epoch: self.epoch, number, content });
        self.ask(Action::StoreCatalog(StoreCatalog { part, is_base }), timeout).await?;
        Ok(())
    }

    /// The copy of the catalog that the node has, if any, and the highest epoch of a leader that the
    /// node has known.
    pub async fn fetch_catalog(&self) -> Result<Option<(CatalogCopy, u64)>, Error> {
        let reply = self.ask(Action::FetchCatalog(FetchCatalog {}), FETCH_TIMEOUT).await?;
        let Some(catalog) = reply.catalog else { return Ok(None) };
        let mut parts = catalog
            .parts
            .into_iter()
            .map(|Part { epoch, number, content }| CatalogPart { epoch, number, content });
        let Some(base) = parts.next() else { return Ok(None) };
        Ok(Some((CatalogCopy { base, records: parts.collect() }, catalog.epoch)))
    }

    /// Writes deletion vectors of segments of the node, durably; `None` if a row of any of them is
    /// deleted already.
    pub async fn write_deletions(
        &self,
        table: TableId,
        new: &[NewDeletions],
    ) -> Result<Option<Vec<DeletionVectorInfo>>, Error> {
        let vectors = new.iter().map(NewDeletionsProto::new).collect();
        let write = Action::WriteDeletions(WriteDeletions { table: table.0, vectors });
        let reply = self.ask(write, WRITE_TIMEOUT).await?;
        if reply.conflict {
            return Ok(None);
        }
        if reply.vectors.len() != new.len() {
            let (node, reason) =
                (self.node_name(), "it wrote another number of vectors".to_owned());
            return Err(Error::Control { node, reason });
        }
        let info =
            |(written, new): (&DeletionsProto, &NewDeletions)| written.to_info(new.segment.id);
        Ok(Some(reply.vectors.iter().zip(new).map(info).collect()))
    }

    /// Rewrites a slice of the node for VACUUM. It ends early when the ids of the request are given
    /// up; `may_go_on` is not asked.
    pub async fn rewrite_slice(
        &self,
        version: &TableVersion,
        request: &RewriteRequest,
    ) -> Result<Vec<RewrittenSegments>, Error> {
        let failed = |error: DataFusionError| Error::Rewrite(error.strip_backtrace());
        let rewrite = RewriteSlice::new(version, request).map_err(failed)?;
        let reply = self.ask(Action::Rewrite(rewrite), REWRITE_TIMEOUT).await?;
        let rewritten = reply.rewritten.iter().map(RewrittenProto::to_rewritten);
        rewritten.collect::<Result<_, _>>().map_err(failed)
    }

    fn node_name(&self) -> String {
        self.url.authority().to_owned()
    }

    async fn ask(&self, action: Action, timeout: Duration) -> Result<ControlReply, Error> {
        let failed = |reason: String| Error::Control { node: self.node_name(), reason };
        let request = ControlRequest { epoch: self.epoch, action: Some(action) };
        let asked = tokio::time::timeout(timeout, self.channels.control(&self.url, request)).await;
        let reply = match asked {
            Err(_) => return Err(failed("no answer in time".to_owned())),
            Ok(Err(error)) => return Err(failed(error.strip_backtrace())),
            Ok(Ok(reply)) => reply,
        };
        if reply.is_replaced {
            return Err(Error::Replaced { node: self.node_name(), reason: reply.error });
        }
        match (reply.error.is_empty(), reply.sqlstate.is_empty()) {
            (true, _) => Ok(reply),
            (false, true) => Err(failed(reply.error)),
            (false, false) => Err(Error::Write {
                node: self.node_name(),
                sqlstate: reply.sqlstate,
                reason: reply.error,
            }),
        }
    }
}

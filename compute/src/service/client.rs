//! The leader's side.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::Result as QueryResult;
use storage::ids::{SegmentId, SliceId, TableId};
use storage::statistics::SegmentInfo;
use url::Url;

use super::catalog_copy::{CatalogCopy, CatalogPart};
use super::messages::{
    AbandonWrite, Action, ControlReply, ControlRequest, CopyRequest, CopySegment, FetchCatalog,
    Heartbeat, HeldFileProto, Inventory, OpenNode, Part, RemoveSegments, SliceSegment,
    StoreCatalog, TableSegments,
};
use crate::error::{Error, with_sqlstate};
use crate::exchange::NodeChannels;
use crate::layout::Layout;
use crate::node::HeldFile;
use crate::placement;

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

/// A node as the leader of an epoch speaks to it.
#[derive(Debug, Clone)]
pub struct NodeClient {
    channels: Arc<NodeChannels>,
    url: Url,
    epoch: u64,
}

/// The segments of a table that the catalog knows.
#[derive(Debug, Clone)]
pub struct KnownTable {
    /// The table.
    pub table: TableId,
    /// Its segments, at least those of the node that is told.
    pub segments: Vec<SegmentId>,
}

/// A segment that a node shall copy from another.
#[derive(Debug, Clone)]
pub struct CopyItem {
    /// The table.
    pub table: TableId,
    /// The slice that it belongs to.
    pub slice: SliceId,
    /// What the catalog keeps of it.
    pub info: Arc<SegmentInfo>,
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
        };
        let reply = self.ask(Action::Open(open), OPEN_TIMEOUT).await?;
        Ok((reply.boot, reply.removed))
    }

    /// Whether the node is there and still open; answers with its boot number.
    pub async fn heartbeat(&self) -> Result<u64, Error> {
        Ok(self.ask(Action::Heartbeat(Heartbeat {}), HEARTBEAT_TIMEOUT).await?.boot)
    }

    /// The segments that lie on the node.
    pub async fn inventory(&self) -> Result<Vec<HeldFile>, Error> {
        let reply = self.ask(Action::Inventory(Inventory {}), OPEN_TIMEOUT).await?;
        let file = |file: HeldFileProto| HeldFile {
            table: TableId(file.table),
            slice: SliceId(file.slice),
            segment: SegmentId(file.segment),
            byte_count: file.byte_count,
        };
        Ok(reply.files.into_iter().map(file).collect())
    }

    /// Has the node copy segments from the node at `source`. When it returns, the copies are
    /// whole, checked and durable. A segment that is there already is not copied again.
    ///
    /// # Errors
    /// As a query's, with its SQLSTATE: 08006 if one of the nodes is gone, 53100 if the disk is
    /// full. Some of the segments may have been copied.
    pub async fn copy_segments(&self, source: &Url, items: &[CopyItem]) -> QueryResult<()> {
        let segment = |item: &CopyItem| CopySegment {
            table: item.table.0,
            slice: item.slice.0,
            info: item.info.to_bytes(),
        };
        let bytes: u64 = items.iter().map(|item| item.info.byte_count).sum();
        let request = CopyRequest {
            epoch: self.epoch,
            source: source.to_string(),
            segments: items.iter().map(segment).collect(),
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

    /// Removes segments that no snapshot sees any more.
    pub async fn remove_segments(
        &self,
        table: TableId,
        segments: &[(SliceId, SegmentId)],
    ) -> Result<(), Error> {
        let segment =
            |(slice, id): &(SliceId, SegmentId)| SliceSegment { slice: slice.0, id: id.0 };
        let segments = segments.iter().map(segment).collect();
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

    async fn ask(&self, action: Action, timeout: Duration) -> Result<ControlReply, Error> {
        let failed =
            |reason: String| Error::Control { node: self.url.authority().to_owned(), reason };
        let request = ControlRequest { epoch: self.epoch, action: Some(action) };
        let asked = tokio::time::timeout(timeout, self.channels.control(&self.url, request)).await;
        let reply = match asked {
            Err(_) => return Err(failed("no answer in time".to_owned())),
            Ok(Err(error)) => return Err(failed(error.strip_backtrace())),
            Ok(Ok(reply)) => reply,
        };
        if reply.error.is_empty() { Ok(reply) } else { Err(failed(reply.error)) }
    }
}

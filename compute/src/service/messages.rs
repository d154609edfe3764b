//! What leader and node say to each other beside queries, and nodes about files.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use prost::Message;
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{DeletionVectorId, SegmentId, SliceId, TableId};
use storage::row_set::RowSet;
use storage::statistics::SegmentInfo;

use super::integrity::{DamageProto, ScrubProto};
use crate::codec::table::{DeletionsProto, SegmentProto, TableProto};
use crate::codec::{missing, unreadable};
use crate::node::{
    FileInfo, HeldFile, NewDeletions, Node, RewriteGoal, RewriteRequest, RewrittenSegments,
    StoredFile,
};
use crate::table::TableVersion;

/// Leader to node.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ControlRequest {
    /// Of the leader that asks.
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(oneof = "Action", tags = "2, 3, 4, 5, 6, 7, 8, 20, 21")]
    pub(crate) action: Option<Action>,
}

/// What the node shall do.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Action {
    #[prost(message, tag = "2")]
    Open(OpenNode),
    #[prost(message, tag = "3")]
    Heartbeat(Heartbeat),
    #[prost(message, tag = "4")]
    RemoveSegments(RemoveSegments),
    #[prost(message, tag = "5")]
    AbandonWrite(AbandonWrite),
    #[prost(message, tag = "20")]
    StoreCatalog(StoreCatalog),
    #[prost(message, tag = "21")]
    FetchCatalog(FetchCatalog),
    #[prost(message, tag = "6")]
    Inventory(Inventory),
    #[prost(message, tag = "7")]
    WriteDeletions(WriteDeletions),
    #[prost(message, tag = "8")]
    Rewrite(RewriteSlice),
}

/// Belong to the leader of this epoch, and remove what no commit made visible.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OpenNode {
    #[prost(uint64, tag = "1")]
    pub(crate) node: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) nodes: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) slices_per_node: u64,
    #[prost(fixed64, tag = "4")]
    pub(crate) placement_fingerprint: u64,
    #[prost(message, repeated, tag = "5")]
    pub(crate) tables: Vec<TableSegments>,
    /// The first id that the leader gives out in its epoch: smaller ones that no table names belong
    /// to nobody, larger ones perhaps to a write that has not committed yet.
    #[prost(uint64, tag = "6")]
    pub(crate) first_segment: u64,
    /// The cluster, whatever its leader.
    #[prost(fixed64, tag = "7")]
    pub(crate) cluster: u64,
    /// The number of the last write to the leader's catalog.
    #[prost(uint64, tag = "8")]
    pub(crate) catalog_number: u64,
    /// Memory that the leader gives to queries on each node, bytes in all.
    #[prost(uint64, tag = "9")]
    pub(crate) query_bytes: u64,
}

/// The files of a table that the catalog knows, by their numbers.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TableSegments {
    #[prost(uint32, tag = "1")]
    pub(crate) table: u32,
    #[prost(uint64, repeated, tag = "2")]
    pub(crate) segments: Vec<u64>,
}

/// Nothing but an answer is wanted.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Heartbeat {}

/// Say which files there are.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Inventory {}

/// Remove files that no snapshot needs any more.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RemoveSegments {
    #[prost(uint32, tag = "1")]
    pub(crate) table: u32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) segments: Vec<SliceSegment>,
}

/// A file and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct SliceSegment {
    #[prost(uint32, tag = "1")]
    pub(crate) slice: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) id: u64,
    /// Set if it is not the segment but a deletion vector of it.
    #[prost(uint64, optional, tag = "3")]
    pub(crate) vector: Option<u64>,
}

impl SliceSegment {
    pub(crate) fn new(slice: SliceId, file: StoredFile) -> Self {
        let (id, vector) = match file {
            StoredFile::Segment(id) => (id, None),
            StoredFile::DeletionVector(segment, id) => (segment, Some(id.0)),
        };
        Self { slice: slice.0, id: id.0, vector }
    }

    pub(crate) fn to_file(self) -> StoredFile {
        let segment = SegmentId(self.id);
        match self.vector {
            None => StoredFile::Segment(segment),
            Some(id) => StoredFile::DeletionVector(segment, DeletionVectorId(id)),
        }
    }
}

/// Write deletion vectors of a table, durably.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteDeletions {
    #[prost(uint32, tag = "1")]
    pub(crate) table: u32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) vectors: Vec<NewDeletionsProto>,
}

/// One of them: see [`crate::NewDeletions`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NewDeletionsProto {
    #[prost(uint32, tag = "1")]
    pub(crate) slice: u32,
    #[prost(message, optional, tag = "2")]
    pub(crate) segment: Option<SegmentProto>,
    #[prost(message, optional, tag = "3")]
    pub(crate) base: Option<DeletionsProto>,
    #[prost(message, optional, tag = "4")]
    pub(crate) apart_from: Option<DeletionsProto>,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) rows: Vec<u8>,
    #[prost(uint64, tag = "6")]
    pub(crate) id: u64,
}

/// Remove what a write left, and let nothing more of it come.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AbandonWrite {
    #[prost(uint32, tag = "1")]
    pub(crate) table: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) first_segment: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) end_segment: u64,
}

impl NewDeletionsProto {
    pub(crate) fn new(new: &NewDeletions) -> Self {
        Self {
            slice: new.slice.0,
            segment: Some(SegmentProto::new(&new.segment)),
            base: new.base.as_ref().map(DeletionsProto::new),
            apart_from: new.apart_from.as_ref().map(DeletionsProto::new),
            rows: new.rows.to_bytes(),
            id: new.id.0,
        }
    }

    pub(crate) fn to_new(&self) -> Result<NewDeletions> {
        let segment = self.segment.as_ref().ok_or_else(|| missing("a segment"))?.to_info();
        let rows = RowSet::from_bytes(&self.rows).map_err(unreadable)?;
        if rows.segment_rows() != segment.row_count {
            return Err(unreadable("the rows to delete are not the segment's"));
        }
        let info = |vector: &DeletionsProto| vector.to_info(segment.id);
        Ok(NewDeletions {
            slice: SliceId(self.slice),
            base: self.base.as_ref().map(info),
            apart_from: self.apart_from.as_ref().map(info),
            segment: Arc::new(segment),
            rows: Arc::new(rows),
            id: DeletionVectorId(self.id),
        })
    }
}

/// Rewrite segments of a slice: see [`crate::RewriteRequest`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RewriteSlice {
    #[prost(message, optional, tag = "1")]
    pub(crate) table: Option<TableProto>,
    #[prost(uint32, tag = "2")]
    pub(crate) slice: u32,
    #[prost(message, repeated, tag = "3")]
    pub(crate) segments: Vec<SegmentProto>,
    #[prost(uint32, optional, tag = "4")]
    pub(crate) sorted_percent: Option<u32>,
    #[prost(uint32, optional, tag = "5")]
    pub(crate) live_percent: Option<u32>,
    #[prost(bool, tag = "6")]
    pub(crate) joins_small: bool,
    #[prost(uint64, tag = "7")]
    pub(crate) first_segment: u64,
    #[prost(uint64, tag = "8")]
    pub(crate) end_segment: u64,
    #[prost(bool, tag = "9")]
    pub(crate) gives_way: bool,
}

/// Segments and what takes their place.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RewrittenProto {
    #[prost(uint64, repeated, tag = "1")]
    sources: Vec<u64>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    segments: Vec<Vec<u8>>,
}

impl RewriteSlice {
    /// The request without its closure.
    pub(crate) fn new(version: &TableVersion, request: &RewriteRequest) -> Result<Self> {
        let segment = |(info, vector): &(Arc<SegmentInfo>, Option<Arc<DeletionVectorInfo>>)| {
            SegmentProto::with_deletions(info, vector.as_deref())
        };
        Ok(Self {
            table: Some(TableProto::new(version)?),
            slice: request.slice.0,
            segments: request.segments.iter().map(segment).collect(),
            sorted_percent: request.goal.sorted_percent.map(u32::from),
            live_percent: request.goal.live_percent.map(u32::from),
            joins_small: request.goal.joins_small,
            first_segment: request.ids.start,
            end_segment: request.ids.end,
            gives_way: request.gives_way,
        })
    }

    /// The request for a node, which stops when its ids are given up.
    pub(crate) fn to_request(&self, node: &Arc<Node>) -> Result<RewriteRequest> {
        let table = self.table.clone().ok_or_else(|| missing("the table of a rewrite"))?;
        let version = table.into_version(node.layout().slices())?;
        let percent = |percent: u32| u8::try_from(percent).map_err(unreadable);
        let segment = |segment: &SegmentProto| {
            let info = segment.to_info();
            let vector = segment.deletions.as_ref().map(|vector| vector.to_info(info.id));
            (Arc::new(info), vector.map(Arc::new))
        };
        let (asked, first) = (Arc::clone(node), SegmentId(self.first_segment));
        Ok(RewriteRequest {
            table: version.table,
            schema: version.schema,
            slice: SliceId(self.slice),
            segments: self.segments.iter().map(segment).collect(),
            goal: RewriteGoal {
                sorted_percent: self.sorted_percent.map(percent).transpose()?,
                live_percent: self.live_percent.map(percent).transpose()?,
                joins_small: self.joins_small,
            },
            ids: self.first_segment..self.end_segment,
            gives_way: self.gives_way,
            may_go_on: Arc::new(move || !asked.is_abandoned(first)),
        })
    }
}

impl RewrittenProto {
    pub(crate) fn new(rewritten: &RewrittenSegments) -> Self {
        Self {
            sources: rewritten.sources.iter().map(|source| source.0).collect(),
            segments: rewritten.segments.iter().map(SegmentInfo::to_bytes).collect(),
        }
    }

    pub(crate) fn to_rewritten(&self) -> Result<RewrittenSegments> {
        let segments = self.segments.iter().map(|bytes| SegmentInfo::from_bytes(bytes));
        Ok(RewrittenSegments {
            sources: self.sources.iter().map(|source| SegmentId(*source)).collect(),
            segments: segments.collect::<Result<_, _>>().map_err(unreadable)?,
        })
    }
}

/// Keep a part of the leader's catalog.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoreCatalog {
    #[prost(message, optional, tag = "1")]
    pub(crate) part: Option<Part>,
    /// It is all of the catalog, and not what one commit changed.
    #[prost(bool, tag = "2")]
    pub(crate) is_base: bool,
}

/// One step in the history of a catalog.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Part {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) number: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) content: Vec<u8>,
}

/// Give back the copy of the catalog. Asked by a leader that has lost its own, so of any epoch.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FetchCatalog {}

/// A copy of the catalog.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CopiedCatalog {
    /// The base, and then each record.
    #[prost(message, repeated, tag = "1")]
    pub(crate) parts: Vec<Part>,
    /// The highest epoch of a leader that has opened the node.
    #[prost(uint64, tag = "2")]
    pub(crate) epoch: u64,
}

/// Node to leader.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ControlReply {
    #[prost(uint64, tag = "1")]
    pub(crate) node: u64,
    /// Drawn anew at each start of the node.
    #[prost(fixed64, tag = "2")]
    pub(crate) boot: u64,
    /// Of the leader that has opened the node; 0 if none has.
    #[prost(uint64, tag = "3")]
    pub(crate) epoch: u64,
    /// Files that were removed.
    #[prost(uint64, tag = "4")]
    pub(crate) removed: u64,
    /// Empty if it was done.
    #[prost(string, tag = "5")]
    pub(crate) error: String,
    /// If it was asked for and there is one.
    #[prost(message, optional, tag = "20")]
    pub(crate) catalog: Option<CopiedCatalog>,
    /// The files that there are, if that was asked.
    #[prost(message, repeated, tag = "6")]
    pub(crate) files: Vec<HeldFileProto>,
    /// Of the error, if it has one.
    #[prost(string, tag = "7")]
    pub(crate) sqlstate: String,
    /// The deletion vectors that were written, in the order of the request; none if a row was
    /// deleted already.
    #[prost(message, repeated, tag = "8")]
    pub(crate) vectors: Vec<DeletionsProto>,
    /// A row was deleted already.
    #[prost(bool, tag = "9")]
    pub(crate) conflict: bool,
    /// What was rewritten.
    #[prost(message, repeated, tag = "10")]
    pub(crate) rewritten: Vec<RewrittenProto>,
    /// The error is that the leader is not the last one any more.
    #[prost(bool, tag = "11")]
    pub(crate) is_replaced: bool,
    /// A number that grows with every change of what is known to be damaged.
    #[prost(uint64, tag = "12")]
    pub(crate) damage_changes: u64,
    /// How far the scrubber is.
    #[prost(message, optional, tag = "13")]
    pub(crate) scrub: Option<ScrubProto>,
    /// The files that are damaged or were, if it was asked which there are.
    #[prost(message, repeated, tag = "14")]
    pub(crate) damages: Vec<DamageProto>,
}

/// A file of a table.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct HeldFileProto {
    #[prost(uint32, tag = "1")]
    pub(crate) table: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) slice: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) number: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) byte_count: u64,
    #[prost(bool, tag = "5")]
    pub(crate) is_damaged: bool,
}

impl From<HeldFile> for HeldFileProto {
    fn from(file: HeldFile) -> Self {
        Self {
            table: file.table.0,
            slice: file.slice.0,
            number: file.number.0,
            byte_count: file.byte_count,
            is_damaged: file.is_damaged,
        }
    }
}

/// Leader to node: copy files from another node, durably.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CopyRequest {
    /// Of the leader that asks.
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    /// The address of the node that has them.
    #[prost(string, tag = "2")]
    pub(crate) source: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) files: Vec<CopyFile>,
}

/// A file to copy.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CopyFile {
    #[prost(uint32, tag = "1")]
    pub(crate) table: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) slice: u32,
    /// What the catalog keeps of it: the copy must be of exactly this file.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) info: Vec<u8>,
    /// It is a deletion vector and not a segment.
    #[prost(bool, tag = "4")]
    pub(crate) is_deletions: bool,
}

impl CopyFile {
    pub(crate) fn new(table: TableId, slice: SliceId, file: &FileInfo) -> Self {
        let (info, is_deletions) = match file {
            FileInfo::Segment(info) => (info.to_bytes(), false),
            FileInfo::Deletions(info) => (info.to_bytes(), true),
        };
        Self { table: table.0, slice: slice.0, info, is_deletions }
    }

    pub(crate) fn to_info(&self) -> Result<FileInfo> {
        if self.is_deletions {
            let info = DeletionVectorInfo::from_bytes(&self.info).map_err(unreadable)?;
            return Ok(FileInfo::Deletions(Arc::new(info)));
        }
        let info = SegmentInfo::from_bytes(&self.info).map_err(unreadable)?;
        Ok(FileInfo::Segment(Arc::new(info)))
    }
}

/// All were copied, or were there.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct CopyReply {}

/// Node to node: send a file.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct FileOpen {
    /// Of the leader of both.
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) table: u32,
    #[prost(message, optional, tag = "3")]
    pub(crate) file: Option<SliceSegment>,
}

/// A part of a file, from front to back; the last has no bytes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FilePart {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) bytes: Bytes,
    /// Of the bytes at their place in this file.
    #[prost(fixed64, tag = "2")]
    pub(crate) checksum: u64,
    /// In the last part: the length of the file.
    #[prost(uint64, tag = "3")]
    pub(crate) byte_count: u64,
}

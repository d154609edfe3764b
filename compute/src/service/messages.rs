//! What leader and node say to each other beside queries, and nodes about files.

use bytes::Bytes;
use prost::Message;

use crate::node::HeldFile;

/// Leader to node.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ControlRequest {
    /// Of the leader that asks.
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(oneof = "Action", tags = "2, 3, 4, 5, 6, 20, 21")]
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
}

/// The segments of a table that the catalog knows.
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

/// Say which segments there are.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Inventory {}

/// Remove segments that no snapshot sees any more.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RemoveSegments {
    #[prost(uint32, tag = "1")]
    pub(crate) table: u32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) segments: Vec<SliceSegment>,
}

/// A segment and where it is.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SliceSegment {
    #[prost(uint32, tag = "1")]
    pub(crate) slice: u32,
    #[prost(uint64, tag = "2")]
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
    /// The segments that there are, if that was asked.
    #[prost(message, repeated, tag = "6")]
    pub(crate) files: Vec<HeldFileProto>,
}

/// A segment's file.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct HeldFileProto {
    #[prost(uint32, tag = "1")]
    pub(crate) table: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) slice: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) segment: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) byte_count: u64,
}

impl From<HeldFile> for HeldFileProto {
    fn from(file: HeldFile) -> Self {
        Self {
            table: file.table.0,
            slice: file.slice.0,
            segment: file.segment.0,
            byte_count: file.byte_count,
        }
    }
}

/// Leader to node: copy segments from another node, durably.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CopyRequest {
    /// Of the leader that asks.
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    /// The address of the node that has them.
    #[prost(string, tag = "2")]
    pub(crate) source: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) segments: Vec<CopySegment>,
}

/// A segment to copy.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CopySegment {
    #[prost(uint32, tag = "1")]
    pub(crate) table: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) slice: u32,
    /// What the catalog keeps of it: the copy must be of exactly this file.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) info: Vec<u8>,
}

/// All were copied, or were there.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct CopyReply {}

/// Node to node: send a segment's file.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct FileOpen {
    /// Of the leader of both.
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) table: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) slice: u32,
    #[prost(uint64, tag = "4")]
    pub(crate) segment: u64,
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

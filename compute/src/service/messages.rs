//! What leader and node say to each other beside queries.

use prost::Message;

/// Leader to node.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ControlRequest {
    /// Of the leader that asks.
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(oneof = "Action", tags = "2, 3, 4, 5, 20, 21")]
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
}

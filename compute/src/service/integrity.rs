//! What a node tells its leader of the soundness of its files.

use prost::Message;
use storage::ids::{ColumnId, SegmentId, SliceId, TableId};

use crate::integrity::{Damage, ScrubStatus};

/// See [`ScrubStatus`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct ScrubProto {
    #[prost(uint64, tag = "1")]
    passes: u64,
    #[prost(bool, tag = "2")]
    is_running: bool,
    #[prost(uint64, tag = "3")]
    files: u64,
    #[prost(uint64, tag = "4")]
    bytes: u64,
    #[prost(int64, optional, tag = "5")]
    began_us: Option<i64>,
    #[prost(int64, optional, tag = "6")]
    ended_us: Option<i64>,
    #[prost(uint64, tag = "7")]
    writes_verified: u64,
}

impl From<ScrubStatus> for ScrubProto {
    fn from(status: ScrubStatus) -> Self {
        let ScrubStatus { passes, is_running, files, bytes, began_us, ended_us, writes_verified } =
            status;
        Self { passes, is_running, files, bytes, began_us, ended_us, writes_verified }
    }
}

impl From<ScrubProto> for ScrubStatus {
    fn from(proto: ScrubProto) -> Self {
        let ScrubProto { passes, is_running, files, bytes, began_us, ended_us, writes_verified } =
            proto;
        Self { passes, is_running, files, bytes, began_us, ended_us, writes_verified }
    }
}

/// See [`Damage`].
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct DamageProto {
    #[prost(uint32, tag = "1")]
    table: u32,
    #[prost(uint32, tag = "2")]
    slice: u32,
    #[prost(uint64, tag = "3")]
    number: u64,
    #[prost(string, tag = "4")]
    path: String,
    #[prost(uint32, optional, tag = "5")]
    column: Option<u32>,
    #[prost(string, tag = "6")]
    place: String,
    #[prost(string, tag = "7")]
    reason: String,
    #[prost(bool, tag = "8")]
    is_healed: bool,
}

impl From<Damage> for DamageProto {
    fn from(damage: Damage) -> Self {
        Self {
            table: damage.table.0,
            slice: damage.slice.0,
            number: damage.number.0,
            path: damage.path,
            column: damage.column.map(|column| column.0),
            place: damage.place,
            reason: damage.reason,
            is_healed: damage.is_healed,
        }
    }
}

impl From<DamageProto> for Damage {
    fn from(proto: DamageProto) -> Self {
        Self {
            table: TableId(proto.table),
            slice: SliceId(proto.slice),
            number: SegmentId(proto.number),
            path: proto.path,
            column: proto.column.map(ColumnId),
            place: proto.place,
            reason: proto.reason,
            is_healed: proto.is_healed,
        }
    }
}

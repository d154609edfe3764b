//! What is said on the cluster port.

use bytes::Bytes;
use prost::Message;

/// A task of a stage of a query.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(crate) struct TaskId {
    /// The query's UUID.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) query: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(crate) stage: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) task: u64,
}

/// Leader to node: execute this when somebody asks for its rows. What comes after it on the same
/// stream has a new share only.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskOpen {
    #[prost(message, optional, tag = "1")]
    pub(crate) id: Option<TaskId>,
    #[prost(uint64, tag = "2")]
    pub(crate) task_count: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) plan: Vec<u8>,
    /// The node as others reach it.
    #[prost(string, tag = "4")]
    pub(crate) url: String,
    #[prost(uint64, tag = "5")]
    pub(crate) started_ns: u64,
    /// The share of its query in the processors; 0: it has no part in the sharing.
    #[prost(uint32, tag = "6")]
    pub(crate) cpu_share: u32,
    /// The number of a [`crate::query_threads::Pace`].
    #[prost(uint32, tag = "7")]
    pub(crate) pace: u32,
}

/// Node to leader, on the channel of a task that is measured: now and then while it is open, and as
/// the last word.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskReply {
    #[prost(message, optional, tag = "1")]
    pub(crate) measured: Option<Measured>,
}

/// What the operators of a task have done, each before its inputs.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Measured {
    #[prost(message, repeated, tag = "1")]
    pub(crate) operators: Vec<OperatorMetrics>,
}

/// The metrics of an operator.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperatorMetrics {
    #[prost(message, repeated, tag = "1")]
    pub(crate) metrics: Vec<MetricMessage>,
}

/// A metric, of a partition or of all.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetricMessage {
    #[prost(enumeration = "MetricKind", tag = "1")]
    pub(crate) kind: i32,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// Rows, bytes, or nanoseconds; a time is in nanoseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub(crate) value: u64,
    #[prost(uint64, optional, tag = "4")]
    pub(crate) partition: Option<u64>,
}

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum MetricKind {
    OutputRows = 0,
    OutputBytes = 1,
    ElapsedCompute = 2,
    SpilledBytes = 3,
    Count = 4,
    Gauge = 5,
    PeakMemory = 6,
    Time = 7,
    Started = 8,
    Ended = 9,
}

/// Anyone to node: the rows of a partition.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RowsOpen {
    #[prost(message, optional, tag = "1")]
    pub(crate) id: Option<TaskId>,
    #[prost(uint64, tag = "2")]
    pub(crate) partition: u64,
    #[prost(oneof = "Head", tags = "3, 4, 5")]
    pub(crate) head: Option<Head>,
}

/// What the stage does with its rows at last.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Head {
    /// Nothing.
    #[prost(bool, tag = "3")]
    Plain(bool),
    /// Gives them to every task above: into that many partitions.
    #[prost(uint64, tag = "4")]
    Broadcast(u64),
    /// Divides them by this partitioning.
    #[prost(bytes = "vec", tag = "5")]
    Repartition(Vec<u8>),
}

/// Node to whoever asked for rows.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Frame {
    #[prost(oneof = "Part", tags = "1, 2, 3, 4")]
    pub(crate) part: Option<Part>,
}

/// A part of a stream of rows. The first is the schema, the last is the end.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Part {
    /// Arrow IPC.
    #[prost(bytes = "bytes", tag = "1")]
    Schema(Bytes),
    /// Arrow IPC.
    #[prost(bytes = "bytes", tag = "2")]
    Batch(Bytes),
    /// A batch whose columns have no bytes: so many rows.
    #[prost(uint64, tag = "3")]
    Counted(u64),
    #[prost(message, tag = "4")]
    End(End),
}

/// What the stream had before it.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct End {
    #[prost(uint64, tag = "1")]
    pub(crate) rows: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) batches: u64,
}

/// An error of a query in the details of a gRPC status.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Failure {
    #[prost(uint32, tag = "1")]
    pub(crate) kind: u32,
    #[prost(string, optional, tag = "2")]
    pub(crate) sqlstate: Option<String>,
    #[prost(string, tag = "3")]
    pub(crate) message: String,
}

//! A scan on its way to the node that executes it: the table, the segments of the task's slices,
//! and what to read of them. What the leader knows about the rows stays there.

use std::sync::Arc;

use datafusion::common::{Result, Statistics};
use prost::Message;

use super::SliceScanExec;
use crate::codec::table::{SliceProto, TableProto, numbers};
use crate::codec::{Decoder, Encoder, missing, unreadable};
use crate::table::Home;

/// [`SliceScanExec`] as it travels.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SliceScanProto {
    #[prost(message, optional, tag = "1")]
    table: Option<TableProto>,
    #[prost(message, repeated, tag = "2")]
    partitions: Vec<PartitionProto>,
    #[prost(uint32, repeated, tag = "3")]
    projection: Vec<u32>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    filters: Vec<Vec<u8>>,
    #[prost(uint64, optional, tag = "5")]
    limit: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct PartitionProto {
    #[prost(message, repeated, tag = "1")]
    slices: Vec<SliceProto>,
}

impl SliceScanExec {
    pub(crate) fn to_proto(&self, encoder: &Encoder<'_>) -> Result<SliceScanProto> {
        let slice = |slice: &usize| SliceProto::new(&self.version, *slice);
        let partition = |slices: &Vec<usize>| -> Result<PartitionProto> {
            Ok(PartitionProto { slices: slices.iter().map(slice).collect::<Result<_>>()? })
        };
        Ok(SliceScanProto {
            table: Some(TableProto::new(&self.version)?),
            partitions: self.partitions.iter().map(partition).collect::<Result<_>>()?,
            projection: numbers(&self.projection)?,
            filters: encoder.exprs(self.filters.iter().chain(&self.runtime_filters))?,
            limit: self.limit.map(|limit| limit as u64),
        })
    }

    pub(crate) fn from_proto(proto: SliceScanProto, decoder: &Decoder<'_>) -> Result<Self> {
        let node = &decoder.site.node;
        let table = proto.table.ok_or_else(|| missing("the table of a scan"))?;
        let mut version = table.into_version(node.layout().slices())?;
        if proto.partitions.len() != node.slices() {
            return Err(unreadable("a scan is made for another number of slices"));
        }
        let mut partitions = Vec::with_capacity(proto.partitions.len());
        for partition in proto.partitions {
            let mut slices = Vec::with_capacity(partition.slices.len());
            for proto in partition.slices {
                let slice = proto.slice as usize;
                proto.put_into(&mut version)?;
                slices.push(slice);
            }
            partitions.push(slices);
        }
        let projection: Vec<usize> =
            proto.projection.iter().map(|column| *column as usize).collect();
        let filters = decoder.exprs(&proto.filters, &version.arrow_schema)?;
        let statistics = Arc::new(Statistics::new_unknown(&version.arrow_schema));
        let home = Home::Node(Arc::clone(node));
        let scan =
            Self::with_partitions(Arc::new(version), home, statistics, projection, partitions)?;
        let limit = proto.limit.map(usize::try_from).transpose().map_err(unreadable)?;
        Ok(scan.with_filters(filters).with_limit(limit))
    }
}

//! A table without its segments, as scans and writes send it.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::Result;
use datafusion_proto::protobuf;
use prost::Message;
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{ColumnId, DeletionVectorId, SegmentId, TableId};
use storage::schema::{Column, ColumnType, EncodeName, TableSchema};
use storage::statistics::SegmentInfo;

use super::{missing, unreadable};
use crate::table::{Deletions, Distribution, ROW_ID_COLUMN, TableVersion};

/// A table.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TableProto {
    #[prost(uint32, tag = "1")]
    table: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "3")]
    columns: Vec<ColumnProto>,
    #[prost(uint32, repeated, tag = "4")]
    sort_key: Vec<u32>,
    #[prost(message, optional, tag = "5")]
    arrow_schema: Option<protobuf::Schema>,
    #[prost(oneof = "DistributionProto", tags = "6, 7, 8")]
    distribution: Option<DistributionProto>,
    #[prost(fixed64, tag = "9")]
    placement_fingerprint: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ColumnProto {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint32, tag = "3")]
    kind: u32,
    /// Of DECIMAL.
    #[prost(uint32, tag = "4")]
    precision: u32,
    #[prost(uint32, tag = "5")]
    scale: u32,
    #[prost(bool, tag = "6")]
    nullable: bool,
    #[prost(string, tag = "7")]
    encode: String,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum DistributionProto {
    #[prost(bool, tag = "6")]
    Even(bool),
    #[prost(bool, tag = "7")]
    All(bool),
    #[prost(uint32, tag = "8")]
    Key(u32),
}

/// A segment: what it takes to find it and to know that it is the right one.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SegmentProto {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(fixed64, tag = "2")]
    fingerprint: u64,
    #[prost(uint64, tag = "3")]
    row_count: u64,
    #[prost(uint64, tag = "4")]
    byte_count: u64,
    #[prost(message, optional, tag = "5")]
    pub(crate) deletions: Option<DeletionsProto>,
}

/// The segments of a slice, with their deletion vectors.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SliceProto {
    #[prost(uint32, tag = "1")]
    pub(crate) slice: u32,
    #[prost(message, repeated, tag = "2")]
    segments: Vec<SegmentProto>,
}

impl SliceProto {
    pub(crate) fn new(version: &TableVersion, slice: usize) -> Result<Self> {
        let segments = version.slices.get(slice).map_or(&[][..], Vec::as_slice);
        let segment = |info: &Arc<SegmentInfo>| {
            let vector = version.deletions.get(&info.id);
            SegmentProto::with_deletions(info, vector.map(Arc::as_ref))
        };
        Ok(Self { slice: number(slice)?, segments: segments.iter().map(segment).collect() })
    }

    /// Puts the segments into a version that has the slice.
    pub(crate) fn put_into(&self, version: &mut TableVersion) -> Result<()> {
        let Some(slice) = version.slices.get_mut(self.slice as usize) else {
            return Err(unreadable("a slice is not of the cluster"));
        };
        let deletions = Arc::make_mut(&mut version.deletions);
        for segment in &self.segments {
            let info = segment.to_info();
            if let Some(vector) = &segment.deletions {
                deletions.insert(info.id, Arc::new(vector.to_info(info.id)));
            }
            slice.push(Arc::new(info));
        }
        Ok(())
    }
}

/// A deletion vector.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeletionsProto {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(fixed64, tag = "2")]
    fingerprint: u64,
    #[prost(uint64, tag = "3")]
    deleted_rows: u64,
    #[prost(uint64, tag = "4")]
    byte_count: u64,
}

impl DeletionsProto {
    pub(crate) fn new(info: &DeletionVectorInfo) -> Self {
        Self {
            id: info.id.0,
            fingerprint: info.fingerprint,
            deleted_rows: info.deleted_rows,
            byte_count: info.byte_count,
        }
    }

    /// The vector, which is of this segment.
    pub(crate) fn to_info(&self, segment: SegmentId) -> DeletionVectorInfo {
        DeletionVectorInfo {
            id: DeletionVectorId(self.id),
            segment,
            fingerprint: self.fingerprint,
            deleted_rows: self.deleted_rows,
            byte_count: self.byte_count,
        }
    }
}

/// The stored types without parameters, by number.
const KINDS: &[(u32, ColumnType)] = &[
    (1, ColumnType::Boolean),
    (2, ColumnType::SmallInt),
    (3, ColumnType::Integer),
    (4, ColumnType::BigInt),
    (6, ColumnType::Real),
    (7, ColumnType::Double),
    (8, ColumnType::Text),
    (9, ColumnType::Date),
    (10, ColumnType::Time),
    (11, ColumnType::TimeTz),
    (12, ColumnType::Timestamp),
    (13, ColumnType::TimestampTz),
];
const KIND_DECIMAL: u32 = 5;

/// A stored type as numbers: kind, precision, scale.
pub(crate) fn type_to_numbers(column_type: ColumnType) -> Result<(u32, u32, u32)> {
    if let ColumnType::Decimal { precision, scale } = column_type {
        return Ok((KIND_DECIMAL, u32::from(precision), u32::from(scale)));
    }
    let known = KINDS.iter().find(|(_, known)| *known == column_type);
    known.map(|(kind, _)| (*kind, 0, 0)).ok_or_else(|| missing("the number of a type"))
}

/// The stored type of [`type_to_numbers`].
pub(crate) fn type_from_numbers(kind: u32, precision: u32, scale: u32) -> Result<ColumnType> {
    if kind == KIND_DECIMAL {
        let small = |number| u8::try_from(number).map_err(unreadable);
        return Ok(ColumnType::Decimal { precision: small(precision)?, scale: small(scale)? });
    }
    let known = KINDS.iter().find(|(known, _)| *known == kind);
    known.map(|(_, column_type)| *column_type).ok_or_else(|| missing("the type of a column"))
}

impl TableProto {
    pub(crate) fn new(version: &TableVersion) -> Result<Self> {
        let column = |column: &Column| -> Result<ColumnProto> {
            let (kind, precision, scale) = type_to_numbers(column.column_type)?;
            Ok(ColumnProto {
                id: column.id.0,
                name: column.name.clone(),
                kind,
                precision,
                scale,
                nullable: column.nullable,
                encode: column.encode.name().to_owned(),
            })
        };
        Ok(Self {
            table: version.table.0,
            name: version.name.clone(),
            columns: version.schema.columns.iter().map(column).collect::<Result<_>>()?,
            sort_key: numbers(&version.schema.sort_key)?,
            arrow_schema: Some(version.arrow_schema.as_ref().try_into()?),
            distribution: Some(match version.distribution {
                Distribution::Even => DistributionProto::Even(true),
                Distribution::All => DistributionProto::All(true),
                Distribution::Key(key) => DistributionProto::Key(number(key)?),
            }),
            placement_fingerprint: version.placement_fingerprint,
        })
    }

    /// The table with `slices` empty slices.
    pub(crate) fn into_version(self, slices: usize) -> Result<TableVersion> {
        let arrow_schema = self.arrow_schema.as_ref().ok_or_else(|| missing("a schema"))?;
        let arrow_schema: Schema = arrow_schema.try_into()?;
        let column = |column: ColumnProto| -> Result<Column> {
            Ok(Column {
                id: ColumnId(column.id),
                column_type: type_from_numbers(column.kind, column.precision, column.scale)?,
                name: column.name,
                nullable: column.nullable,
                encode: EncodeName::from_name(&column.encode)
                    .ok_or_else(|| missing("the encoding of a column"))?,
            })
        };
        let columns: Vec<Column> = self.columns.into_iter().map(column).collect::<Result<_>>()?;
        let distribution = match self.distribution.ok_or_else(|| missing("a distribution"))? {
            DistributionProto::Even(_) => Distribution::Even,
            DistributionProto::All(_) => Distribution::All,
            DistributionProto::Key(key) => Distribution::Key(key as usize),
        };
        let key = match distribution {
            Distribution::Key(key) => Some(key),
            Distribution::Even | Distribution::All => None,
        };
        let sort_key: Vec<usize> = self.sort_key.iter().map(|column| *column as usize).collect();
        let in_range = |column: &usize| *column < columns.len();
        let (stored, more) =
            arrow_schema.fields().split_at(columns.len().min(arrow_schema.fields().len()));
        let is_row_id = |field: &FieldRef| field.name() == ROW_ID_COLUMN;
        if stored.len() != columns.len()
            || !(more.is_empty() || more.len() == 1 && is_row_id(&more[0]))
            || !key.iter().chain(&sort_key).all(in_range)
        {
            return Err(unreadable("the columns of a table do not fit"));
        }
        Ok(TableVersion {
            table: TableId(self.table),
            name: self.name,
            schema: Arc::new(TableSchema { columns, sort_key }),
            arrow_schema: Arc::new(arrow_schema),
            distribution,
            placement_fingerprint: self.placement_fingerprint,
            slices: vec![Vec::new(); slices],
            deletions: Deletions::default(),
        })
    }
}

impl SegmentProto {
    pub(crate) fn new(info: &SegmentInfo) -> Self {
        Self {
            id: info.id.0,
            fingerprint: info.fingerprint,
            row_count: info.row_count,
            byte_count: info.byte_count,
            deletions: None,
        }
    }

    pub(crate) fn with_deletions(info: &SegmentInfo, vector: Option<&DeletionVectorInfo>) -> Self {
        Self { deletions: vector.map(DeletionsProto::new), ..Self::new(info) }
    }

    pub(crate) fn to_info(&self) -> SegmentInfo {
        SegmentInfo {
            id: SegmentId(self.id),
            fingerprint: self.fingerprint,
            row_count: self.row_count,
            byte_count: self.byte_count,
            columns: Vec::new(),
        }
    }
}

/// A position as it is sent.
pub(crate) fn number(position: usize) -> Result<u32> {
    u32::try_from(position).map_err(unreadable)
}

/// Positions as they are sent.
pub(crate) fn numbers(positions: &[usize]) -> Result<Vec<u32>> {
    positions.iter().map(|position| number(*position)).collect()
}

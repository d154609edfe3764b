//! A table in the catalog: its definition and, by slice, its segments as of the snapshot.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use compute::{Deletions, StoredFile};
use sql::Identity;
use sql::types::SqlType;
use storage::ids::{ColumnId, SegmentId, SliceId, TableId};
use storage::schema::{Column, ColumnType, EncodeName, TableSchema};
use storage::sort_order::SortedRows;
use storage::statistics::SegmentInfo;

use super::constraint::ConstraintEntry;
use super::segment_list::SegmentList;
use crate::error::{Error, Result};

/// Where the rows of a table live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DistributionStyle {
    /// DISTSTYLE EVEN: round robin.
    Even,
    /// DISTSTYLE ALL: one whole copy on each node.
    All,
    /// DISTSTYLE KEY: by the hash of the column at this position.
    Key(usize),
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableColumn {
    /// For life.
    pub id: ColumnId,
    /// Its name.
    pub name: String,
    /// Its SQL type with modifiers.
    pub sql_type: SqlType,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// DEFAULT, as the text of its expression.
    pub default: Option<String>,
    /// IDENTITY
    pub identity: Option<Identity>,
    /// The asked encoding.
    pub encode: EncodeName,
}

/// A table as of a snapshot.
#[derive(Debug, Clone)]
pub struct TableEntry {
    /// For life.
    pub id: TableId,
    /// The schema it is in.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The user who owns it.
    pub owner: String,
    /// In order of definition.
    pub columns: Vec<TableColumn>,
    /// Where its rows live.
    pub distribution: DistributionStyle,
    /// DISTSTYLE AUTO: where they live may change when the table grows.
    pub is_automatic: bool,
    /// Positions of the compound sort key's columns.
    pub sort_key: Vec<usize>,
    /// PRIMARY KEY, UNIQUE and REFERENCES: informational, as in Redshift.
    pub constraints: Vec<ConstraintEntry>,
    /// The placement hash that its rows were placed with.
    pub placement_fingerprint: u64,
    /// By slice of the cluster. A DISTSTYLE ALL table is all in the first, of which every node has a
    /// copy.
    pub slices: Vec<SegmentList>,
    /// The deletion vectors of segments with deleted rows.
    pub deletions: Deletions,
    /// Numbers below it are taken, for the values of identity columns; rows that are gone had theirs.
    pub numbers_taken: u64,
}

impl TableEntry {
    /// What the segments of this table store.
    pub fn table_schema(&self) -> TableSchema {
        let column = |column: &TableColumn| Column {
            id: column.id,
            name: column.name.clone(),
            column_type: column_type(column.sql_type),
            nullable: column.nullable,
            encode: column.encode,
        };
        TableSchema {
            columns: self.columns.iter().map(column).collect(),
            sort_key: self.sort_key.clone(),
        }
    }

    /// The Arrow schema of its rows; each field carries its SQL type.
    pub fn arrow_schema(&self) -> SchemaRef {
        let field = |column: &TableColumn| column.sql_type.field(&column.name, column.nullable);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// The position of a column.
    pub fn position(&self, name: &str) -> Result<usize> {
        self.columns.iter().position(|column| column.name == name).ok_or_else(|| {
            Error::statement(
                "42703",
                format!("column \"{name}\" of relation \"{}\" does not exist", self.name),
            )
        })
    }

    /// What identity columns are as defaults, in Redshift's words for drivers.
    pub fn identity_default(&self, position: usize) -> Option<String> {
        let Identity { seed, step, by_default } = self.columns.get(position)?.identity?;
        let function = if by_default { "default_identity" } else { "\"identity\"" };
        Some(format!("{function}({}, {position}, '{seed},{step}'::text)", self.id.0))
    }

    /// Whether all but the rows is as in `other`.
    pub fn is_defined_as(&self, other: &Self) -> bool {
        self.reads_as(other)
            && (&self.schema, &self.name, &self.owner) == (&other.schema, &other.name, &other.owner)
            && self.distribution == other.distribution
            && self.is_automatic == other.is_automatic
            && self.constraints == other.constraints
    }

    /// Whether rows that were made for `other` are rows of this table.
    pub fn reads_as(&self, other: &Self) -> bool {
        self.columns == other.columns && self.sort_key == other.sort_key
    }

    /// Rows in all slices, each counted once however many copies there are.
    pub fn row_count(&self) -> u64 {
        let slices = match self.distribution {
            DistributionStyle::All => self.slices.len().min(1),
            _ => self.slices.len(),
        };
        self.slices[..slices].iter().flatten().map(|segment| self.live_rows(segment)).sum()
    }

    /// By slice, how many rows lie in the order of the sort key, as far as statistics tell
    /// ([`SortedRows::estimate`]); `None` without a sort key.
    pub fn sorted_rows(&self) -> Option<Vec<SortedRows>> {
        let key = self.columns.get(*self.sort_key.first()?)?.id;
        let of_slice = |slice: &SegmentList| {
            let known = slice.iter().map(|segment| (segment.column(key), self.live_rows(segment)));
            SortedRows::estimate(&known.collect::<Vec<_>>())
        };
        Some(self.slices.iter().map(of_slice).collect())
    }

    /// The rows of a segment that are not deleted.
    fn live_rows(&self, segment: &SegmentInfo) -> u64 {
        let deleted = self.deletions.get(&segment.id).map_or(0, |vector| vector.deleted_rows);
        segment.row_count.saturating_sub(deleted)
    }

    /// The slice and description of a segment.
    pub fn segment(&self, id: SegmentId) -> Option<(SliceId, &Arc<SegmentInfo>)> {
        let slices = (0u32..).map(SliceId).zip(&self.slices);
        slices
            .flat_map(|(slice, segments)| segments.iter().map(move |segment| (slice, segment)))
            .find(|(_, segment)| segment.id == id)
    }

    /// All its files and where they are.
    pub fn files(&self) -> impl Iterator<Item = (SliceId, StoredFile)> + '_ {
        let slices = (0u32..).map(SliceId).zip(&self.slices);
        let segments =
            slices.flat_map(|(slice, segments)| segments.iter().map(move |s| (slice, s)));
        segments.flat_map(move |(slice, segment)| {
            let vector = self.deletions.get(&segment.id);
            let vector = vector.map(|v| StoredFile::DeletionVector(segment.id, v.id));
            let files = [Some(StoredFile::Segment(segment.id)), vector];
            files.into_iter().flatten().map(move |file| (slice, file))
        })
    }
}

/// The stored type of an SQL type.
pub fn column_type(sql_type: SqlType) -> ColumnType {
    match sql_type {
        SqlType::Boolean => ColumnType::Boolean,
        SqlType::SmallInt => ColumnType::SmallInt,
        SqlType::Integer => ColumnType::Integer,
        SqlType::BigInt => ColumnType::BigInt,
        SqlType::Decimal { precision, scale } => ColumnType::Decimal { precision, scale },
        SqlType::Real => ColumnType::Real,
        SqlType::Double => ColumnType::Double,
        SqlType::Char(_) | SqlType::VarChar(_) => ColumnType::Text,
        SqlType::Date => ColumnType::Date,
        SqlType::Time => ColumnType::Time,
        SqlType::TimeTz => ColumnType::TimeTz,
        SqlType::Timestamp => ColumnType::Timestamp,
        SqlType::TimestampTz => ColumnType::TimestampTz,
    }
}

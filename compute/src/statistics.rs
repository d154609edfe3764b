//! What the segments of a table version know about its rows, as DataFusion's planner takes it.
//!
//! Row counts and NULL counts are exact, because a version is fixed. Bounds are exact where a bound
//! is a value of the column: text bounds are cut, and NaN is in no bounds. Counts of distinct
//! values are estimates. Exact figures may answer a query (`count(*)`, `min`, `max`) without a scan.
//!
//! Where rows are deleted the number of those left is still exact. All else is known of all rows, so
//! that it bounds what is left: only that there are no NULLs stays a fact.

use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use storage::predicate::Constant;
use storage::schema::{Column, ColumnType};
use storage::statistics::ColumnStatistics as StoredStatistics;

use crate::plan::constants::to_scalar;
use crate::table::TableVersion;

/// The statistics of all columns of the table, merged over its segments.
pub(crate) fn table_statistics(version: &TableVersion) -> Statistics {
    let has_deletions = version.has_deletions();
    let of_column = |column: &Column| {
        let statistics = column_statistics(version, column);
        if has_deletions { without_deleted(statistics) } else { statistics }
    };
    let mut columns: Vec<ColumnStatistics> = version.schema.columns.iter().map(of_column).collect();
    // The row ids, if there are any.
    columns.resize(version.arrow_schema.fields().len(), ColumnStatistics::new_unknown());
    let bytes = columns.iter().map(|c| c.byte_size).fold(Precision::Exact(0), |a, b| a.add(&b));
    Statistics {
        num_rows: Precision::Exact(to_count(version.row_count())),
        total_byte_size: bytes.to_inexact(),
        column_statistics: columns,
    }
}

/// What is still known of a column some of whose rows are deleted.
fn without_deleted(statistics: ColumnStatistics) -> ColumnStatistics {
    let null_count = match statistics.null_count {
        none @ Precision::Exact(0) => none,
        some => some.to_inexact(),
    };
    ColumnStatistics { null_count, ..statistics.to_inexact() }
}

fn column_statistics(version: &TableVersion, column: &Column) -> ColumnStatistics {
    let mut merged: Option<(StoredStatistics, u64)> = None;
    for segment in version.segments() {
        // A segment from before the column was added knows nothing of it.
        let Some(stored) = segment.column(column.id) else {
            return ColumnStatistics::new_unknown();
        };
        merged = match merged {
            None => Some((stored.clone(), segment.row_count)),
            Some((mut sum, rows)) => {
                sum.merge(rows, stored, segment.row_count);
                Some((sum, rows + segment.row_count))
            }
        };
    }
    let Some((stored, _)) = merged else {
        return ColumnStatistics {
            null_count: Precision::Exact(0),
            distinct_count: Precision::Exact(0),
            byte_size: Precision::Exact(0),
            ..ColumnStatistics::new_unknown()
        };
    };
    let bound = |constant: &Option<Constant>| {
        let scalar = constant.as_ref().and_then(|bound| to_scalar(bound, column.column_type));
        match scalar {
            Some(scalar) if is_value(column.column_type) => Precision::Exact(scalar),
            Some(scalar) => Precision::Inexact(scalar),
            None => Precision::Absent,
        }
    };
    ColumnStatistics {
        null_count: Precision::Exact(to_count(stored.null_count)),
        min_value: bound(&stored.min),
        max_value: bound(&stored.max),
        sum_value: Precision::Absent,
        distinct_count: Precision::Inexact(stored.distinct.estimate() as usize),
        byte_size: Precision::Inexact(to_count(stored.uncompressed_bytes)),
    }
}

/// Whether the bounds of such a column are values of it.
fn is_value(column_type: ColumnType) -> bool {
    match column_type {
        ColumnType::Text | ColumnType::Real | ColumnType::Double => false,
        ColumnType::Boolean
        | ColumnType::SmallInt
        | ColumnType::Integer
        | ColumnType::BigInt
        | ColumnType::Decimal { .. }
        | ColumnType::Date
        | ColumnType::Time
        | ColumnType::TimeTz
        | ColumnType::Timestamp
        | ColumnType::TimestampTz => true,
    }
}

fn to_count(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

//! How many rows each operator of a physical plan gives, how wide they are, and what that costs.
//!
//! Rows follow the rules of [`super::super::cardinality`], by which joins were ordered: uniform
//! values, independent conditions, containment of join keys. Here they are applied to the finished
//! plan, network boundaries included. `docs/explain.md` explains the figures to users.

use datafusion::arrow::datatypes::{DataType, Schema};

/// Bytes of a text of which nothing is known.
const TEXT_BYTES: f64 = 32.0;
/// Work on a row: reading, hashing, comparing or copying it.
const ROW: f64 = 0.01;
/// Work of an expression on a row.
const EXPRESSION: f64 = 0.0025;
/// Moving a byte to another node: writing, sending and reading it.
const BYTE_MOVED: f64 = 0.001;
/// A row of the side that a hash table is built from, against one that only looks into it.
const BUILD_WEIGHT: f64 = 2.0;

/// A column of an operator's output.
#[derive(Debug, Clone, Copy)]
pub(super) struct ColumnEstimate {
    /// Distinct values; infinite if nothing is known.
    pub(super) distinct: f64,
    /// Bytes of a value.
    pub(super) width: f64,
}

/// An operator's output.
#[derive(Debug, Clone, Default)]
pub(super) struct Estimate {
    /// Rows, of all nodes together.
    pub(super) rows: f64,
    /// In the order of the output.
    pub(super) columns: Vec<ColumnEstimate>,
}

impl Estimate {
    /// Rows of these columns, of which nothing else is known.
    pub(super) fn unknown(rows: f64, schema: &Schema) -> Self {
        let fields = schema.fields().iter();
        let columns = fields.map(|field| ColumnEstimate::unknown(field.data_type())).collect();
        Self { rows, columns }
    }

    /// Bytes of a row.
    pub(super) fn width(&self) -> f64 {
        self.columns.iter().map(|column| column.width).fold(0.0, |sum, width| sum + width)
    }

    /// Bytes of all rows.
    pub(super) fn bytes(&self) -> f64 {
        self.rows * self.width()
    }

    /// Distinct values of a column: never more than rows.
    pub(super) fn distinct(&self, column: usize) -> f64 {
        let known = self.columns.get(column).map_or(f64::INFINITY, |column| column.distinct);
        known.min(self.rows).max(1.0)
    }
}

impl ColumnEstimate {
    /// A column of this type.
    pub(super) fn unknown(data_type: &DataType) -> Self {
        Self { distinct: f64::INFINITY, width: type_bytes(data_type) }
    }
}

/// What a value of a type takes when stored.
fn type_bytes(data_type: &DataType) -> f64 {
    match data_type {
        DataType::Boolean | DataType::Null => 1.0,
        DataType::Decimal128(precision, _) if *precision <= 18 => 8.0,
        other => other.primitive_width().map_or(TEXT_BYTES, |bytes| bytes as f64),
    }
}

/// Rows of an inner join; `keys` are the distinct values on both sides of each condition. Several
/// conditions together cannot tell apart more than the rows of a side.
pub(super) fn inner_rows(outer: f64, inner: f64, keys: &[(f64, f64)]) -> f64 {
    let apart = match keys {
        [] => 1.0,
        [(o, i)] => o.max(*i),
        _ => {
            let o = keys.iter().map(|(o, _)| o).product::<f64>().min(outer);
            let i = keys.iter().map(|(_, i)| i).product::<f64>().min(inner);
            o.min(i)
        }
    };
    outer * inner / apart.max(1.0)
}

/// What an operator costs with all that is below it, in the unit of Redshift: a hundred rows read
/// are 1. It is work, of all slices together, and not time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Cost {
    /// Before the first row comes.
    pub(super) startup: f64,
    /// Until the last.
    pub(super) total: f64,
}

impl Cost {
    /// Reading `rows` of a table and testing each on some expressions.
    pub(super) fn scan(rows: f64, expressions: usize) -> Self {
        Self { startup: 0.0, total: rows * row_with(expressions) }
    }

    /// Rows pass one by one.
    pub(super) fn then_each(self, rows: f64, expressions: usize) -> Self {
        Self { total: self.total + rows * row_with(expressions), ..self }
    }

    /// Expressions are computed of each row.
    pub(super) fn then_compute(self, rows: f64, expressions: usize) -> Self {
        Self { total: self.total + rows * EXPRESSION * expressions as f64, ..self }
    }

    /// Nothing comes before all rows were seen.
    pub(super) fn then_all(self, rows: f64, expressions: usize, rows_out: f64) -> Self {
        let startup = self.total + rows * row_with(expressions);
        Self { startup, total: startup + rows_out * ROW }
    }

    /// The same for another number of rows that come out at the end.
    pub(super) fn with_rows_out(self, rows_out: f64) -> Self {
        Self { total: self.startup + rows_out * ROW, ..self }
    }

    /// All rows are compared with one another.
    pub(super) fn then_sort(self, rows: f64) -> Self {
        let startup = self.total + rows * ROW * rows.max(2.0).log2();
        Self { startup, total: startup + rows * ROW }
    }

    /// Sorted streams become one.
    pub(super) fn then_merge(self, rows: f64, streams: usize) -> Self {
        let steps = (streams.max(2) as f64).log2();
        Self { total: self.total + rows * EXPRESSION * steps, ..self }
    }

    /// Bytes go to other nodes, as they come.
    pub(super) fn then_moved(self, bytes: f64) -> Self {
        Self { total: self.total + bytes * BYTE_MOVED, ..self }
    }

    /// As a hash table.
    pub(super) fn hashed(self) -> Self {
        Self { startup: self.total, total: self.total }
    }

    /// Only a part of the rows is asked for, from 0 to 1.
    pub(super) fn part(self, part: f64) -> Self {
        let rest = (self.total - self.startup) * part.clamp(0.0, 1.0);
        Self { total: self.startup + rest, ..self }
    }

    /// A hash join: `inner` is hashed, `outer` passes by.
    pub(super) fn hash_join(
        (outer, outer_rows): (Self, f64),
        (inner, inner_rows): (Self, f64),
        expressions: usize,
        rows_out: f64,
    ) -> Self {
        let startup = outer.startup + inner.total + inner_rows * ROW * BUILD_WEIGHT;
        let probing = outer.total - outer.startup + outer_rows * ROW;
        Self { startup, total: startup + probing + rows_out * row_with(expressions) }
    }

    /// Each pair of rows is looked at.
    pub(super) fn nested_loop(
        (outer, outer_rows): (Self, f64),
        (inner, inner_rows): (Self, f64),
        rows_out: f64,
    ) -> Self {
        let startup = outer.startup + inner.total;
        let pairs = outer_rows * inner_rows;
        let looking = outer.total - outer.startup + pairs * ROW;
        Self { startup, total: startup + looking + rows_out * ROW }
    }

    /// One after the other.
    pub(super) fn sum(costs: impl Iterator<Item = Self>) -> Self {
        costs.fold(Self::default(), |sum, cost| Self {
            startup: sum.startup,
            total: sum.total + cost.total,
        })
    }
}

fn row_with(expressions: usize) -> f64 {
    ROW + expressions as f64 * EXPRESSION
}

/// Bytes that cross the network when rows go to the slices of their keys: all but those that are
/// there.
pub(super) fn distributed_bytes(bytes: f64, nodes: usize) -> f64 {
    let nodes = nodes.max(1) as f64;
    bytes * (nodes - 1.0) / nodes
}

/// Bytes that cross the network when each node gets all rows.
pub(super) fn broadcast_bytes(bytes: f64, nodes: usize) -> f64 {
    bytes * (nodes.max(1) - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_rows_read_cost_one() {
        assert_eq!(Cost::scan(172_456.0, 0), Cost { startup: 0.0, total: 1_724.56 });
    }

    /// Textbook: two tables joined by the key of one have the rows of the other.
    #[test]
    fn a_join_by_a_key_keeps_the_rows_of_the_other_side() {
        assert_eq!(inner_rows(172_456.0, 8_798.0, &[(8_000.0, 8_798.0)]), 172_456.0);
        assert_eq!(inner_rows(10.0, 20.0, &[]), 200.0);
    }

    #[test]
    fn one_node_moves_nothing() {
        assert_eq!(distributed_bytes(1000.0, 1), 0.0);
        assert_eq!(broadcast_bytes(1000.0, 1), 0.0);
        assert_eq!(distributed_bytes(1000.0, 4), 750.0);
        assert_eq!(broadcast_bytes(1000.0, 4), 3000.0);
    }
}

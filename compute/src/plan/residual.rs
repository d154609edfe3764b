//! Filters without a native form: expressions evaluated on the decoded columns of a window.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_expr::utils::collect_columns;

use super::window_columns::WindowColumns;

/// A filter expression, the columns it looks at, and what it has cost and gained so far.
pub(crate) struct Residual {
    /// Over `schema`.
    expr: Arc<dyn PhysicalExpr>,
    /// Positions in the table of the columns of `schema`.
    columns: Vec<usize>,
    schema: SchemaRef,
    may_fail: bool,
    rows_in: u64,
    rows_out: u64,
    nanoseconds: u64,
}

impl Residual {
    /// A filter whose columns are positions in `table`.
    pub(crate) fn new(expr: Arc<dyn PhysicalExpr>, table: &SchemaRef) -> Result<Self> {
        let mut columns: Vec<usize> = collect_columns(&expr).iter().map(Column::index).collect();
        columns.sort_unstable();
        columns.dedup();
        let schema: SchemaRef = Arc::new(table.project(&columns)?);
        let may_fail = may_fail(&expr)?;
        let expr = move_columns(expr, |index| columns.binary_search(&index).ok())?;
        Ok(Self { expr, columns, schema, may_fail, rows_in: 0, rows_out: 0, nanoseconds: 0 })
    }

    /// Rows that the filter was asked about.
    pub(crate) fn rows_in(&self) -> u64 {
        self.rows_in
    }

    /// The part of the rows that the filter passed; 1 if it was asked about none.
    pub(crate) fn pass_rate(&self) -> f64 {
        if self.rows_in == 0 { 1.0 } else { self.rows_out as f64 / self.rows_in as f64 }
    }

    /// Drops the rows for which the filter is not true. Returns how many.
    pub(crate) fn apply(&mut self, window: &mut WindowColumns<'_>) -> Result<usize> {
        let started = Instant::now();
        let rows = window.selected();
        let arrays =
            self.columns.iter().map(|column| window.column(*column)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.schema);
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options)?;
        let removed = match self.expr.evaluate(&batch)? {
            ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => 0,
            value => {
                let keep = value.into_array(rows)?;
                let Some(keep) = keep.as_boolean_opt() else {
                    return internal_err!("filter {} is not a condition", self.expr);
                };
                window.refine(keep)?
            }
        };
        self.rows_in += rows as u64;
        self.rows_out += (rows - removed) as u64;
        self.nanoseconds += u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Ok(removed)
    }

    /// Cost per row dropped, nanoseconds: what is cheap and drops much goes first.
    fn rank(&self) -> f64 {
        let dropped = (self.rows_in - self.rows_out).max(1);
        self.nanoseconds as f64 / dropped as f64
    }
}

/// Puts the cheapest filter first, by what was measured. Filters that may fail keep their order and
/// come last, so that whether a query fails does not depend on measurements.
pub(crate) fn reorder(filters: &mut [Residual]) {
    filters.sort_by(|left, right| match (left.may_fail, right.may_fail) {
        (false, false) => left.rank().total_cmp(&right.rank()),
        (left, right) => left.cmp(&right),
    });
}

/// The expression with its columns moved to other positions.
pub(crate) fn move_columns(
    expr: Arc<dyn PhysicalExpr>,
    position: impl Fn(usize) -> Option<usize>,
) -> Result<Arc<dyn PhysicalExpr>> {
    expr.transform_up(|node| {
        let Some(column) = node.downcast_ref::<Column>() else {
            return Ok(Transformed::no(node));
        };
        let Some(index) = position(column.index()) else {
            return internal_err!("filter column {column} is not in the scan");
        };
        if index == column.index() {
            return Ok(Transformed::no(node));
        }
        Ok(Transformed::yes(Arc::new(Column::new(column.name(), index)) as _))
    })
    .data()
}

/// Whether evaluating the expression can end in an error: anything but comparisons and logic.
fn may_fail(expr: &Arc<dyn PhysicalExpr>) -> Result<bool> {
    let mut may_fail = false;
    expr.apply(|node| {
        let harmless = node.is::<Column>()
            || node.is::<Literal>()
            || node.is::<InListExpr>()
            || node.is::<LikeExpr>()
            || node.is::<IsNullExpr>()
            || node.is::<IsNotNullExpr>()
            || node.is::<NotExpr>()
            || node.downcast_ref::<BinaryExpr>().is_some_and(|binary| {
                binary.op().supports_propagation() || binary.op().is_logic_operator()
            });
        may_fail |= !harmless;
        Ok(if may_fail { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(may_fail)
}

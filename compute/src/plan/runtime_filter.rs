//! Filters that other operators refine while the scan runs: a hash join that has built its table,
//! a top-k sort that has found better rows.
//!
//! Such a filter is `true` at first and only ever gets tighter, and the operator that made it checks
//! every row again; so the scan may use any part of it, at any time. It looks for news between row
//! groups. Bounds and short lists become native predicates, which prune zones; the rest, the lookup
//! in the join's hash table, is evaluated on decoded keys and switched off when it keeps most rows.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, CaseExpr, Literal};
use datafusion::physical_expr::{DynamicFilterTracking, PhysicalExpr, split_conjunction};
use datafusion::physical_expr_common::physical_expr::{
    snapshot_generation, snapshot_physical_expr,
};
use datafusion::physical_plan::joins::HashExpr;
use datafusion::physical_plan::repartition::REPARTITION_RANDOM_STATE;
use storage::WINDOW_ROWS;
use storage::predicate::Predicate;
use storage::schema::TableSchema;

use super::bounds::{Implied, implied, to_predicates};
use super::native::{as_column, translate};
use super::residual::Residual;
use super::window_columns::WindowColumns;

/// A filter that was asked about this many rows has shown what it is worth.
const SAMPLE_ROWS: u64 = 4 * WINDOW_ROWS as u64;

/// A filter that passes more than this part of the rows costs more than it saves.
const PASS_RATE_MAX: f64 = 0.8;

/// Whether the expression is, or holds, a filter that an operator refines.
pub(crate) fn is_runtime_filter(expr: &Arc<dyn PhysicalExpr>) -> bool {
    DynamicFilterTracking::classify(expr).contains_dynamic_filter()
}

/// What a partition knows about the rows it reads.
pub(crate) struct RowFacts<'p> {
    pub(crate) schema: &'p TableSchema,
    pub(crate) arrow_schema: &'p SchemaRef,
    /// Set if all rows of the partition have the same placement hash, modulo the slices.
    pub(crate) slice: Option<SliceOfKey>,
}

/// `hash(column) % slices == slice` for every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SliceOfKey {
    pub(crate) column: usize,
    pub(crate) slices: usize,
    pub(crate) slice: usize,
}

/// One pushed-down filter, as of the last look.
pub(crate) struct RuntimeFilter {
    /// Over the table's columns; holds the shared, changing part.
    expr: Arc<dyn PhysicalExpr>,
    generation: Option<u64>,
    never: bool,
    native: Vec<Predicate>,
    residuals: Vec<Residual>,
}

impl RuntimeFilter {
    pub(crate) fn new(expr: Arc<dyn PhysicalExpr>) -> Self {
        Self { expr, generation: None, never: false, native: vec![], residuals: vec![] }
    }

    /// Takes over what has changed since the last look.
    pub(crate) fn refresh(&mut self, facts: &RowFacts<'_>) -> Result<()> {
        let generation = snapshot_generation(&self.expr);
        if self.generation == Some(generation) {
            return Ok(());
        }
        // The generation is read first: a change in between is seen again at the next look.
        self.generation = Some(generation);
        let expr = snapshot_physical_expr(Arc::clone(&self.expr))?;
        self.never = false;
        self.native.clear();
        self.residuals.clear();
        self.take_conjuncts(&expr, facts)
    }

    /// Whether no row passes.
    pub(crate) fn never(&self) -> bool {
        self.never
    }

    /// The part that storage evaluates.
    pub(crate) fn native(&self) -> &[Predicate] {
        &self.native
    }

    /// Drops rows that the rest of the filter does not pass. Returns how many.
    pub(crate) fn apply(&mut self, window: &mut WindowColumns<'_>) -> Result<usize> {
        let mut removed = 0;
        for residual in &mut self.residuals {
            let useless = residual.rows_in() >= SAMPLE_ROWS && residual.pass_rate() > PASS_RATE_MAX;
            if !useless && window.selected() > 0 {
                removed += residual.apply(window)?;
            }
        }
        Ok(removed)
    }

    fn take_conjuncts(&mut self, expr: &Arc<dyn PhysicalExpr>, facts: &RowFacts<'_>) -> Result<()> {
        for conjunct in split_conjunction(expr) {
            if let Some(branch) = facts.slice.and_then(|slice| branch_of(conjunct, slice)) {
                self.take_conjuncts(&branch, facts)?;
                continue;
            }
            if let Some(predicate) = translate(conjunct, facts.schema) {
                self.native.push(predicate);
                continue;
            }
            match implied(conjunct, facts.schema) {
                Implied::Never => self.never = true,
                Implied::Ranges(ranges) => self.native.extend(to_predicates(ranges)),
            }
            if !is_true(conjunct) {
                self.residuals.push(Residual::new(Arc::clone(conjunct), facts.arrow_schema)?);
            }
        }
        Ok(())
    }
}

fn is_true(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Literal>()
        .is_some_and(|literal| *literal.value() == ScalarValue::Boolean(Some(true)))
}

/// A join with a hash table per partition pushes `CASE hash(key) % n WHEN 0 THEN f0 WHEN 1 ..`.
/// If all our rows belong to one of these partitions, only its branch matters.
fn branch_of(expr: &Arc<dyn PhysicalExpr>, slice: SliceOfKey) -> Option<Arc<dyn PhysicalExpr>> {
    let case = expr.downcast_ref::<CaseExpr>()?;
    let routing = case.expr()?.downcast_ref::<BinaryExpr>()?;
    let hash = routing.left().downcast_ref::<HashExpr>()?;
    let [key] = hash.on_columns() else { return None };
    let routed_like_us = *routing.op() == Operator::Modulo
        && as_number(routing.right())? == slice.slices as u64
        && hash.seed() == REPARTITION_RANDOM_STATE.seed()
        && as_column(key)? == slice.column;
    if !routed_like_us {
        return None;
    }
    for (when, then) in case.when_then_expr() {
        if as_number(when)? == slice.slice as u64 {
            return Some(Arc::clone(then));
        }
    }
    case.else_expr().map(Arc::clone)
}

fn as_number(expr: &Arc<dyn PhysicalExpr>) -> Option<u64> {
    match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::UInt64(value) => *value,
        _ => None,
    }
}
